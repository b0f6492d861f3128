import { Cell } from "../base/index.ts";
import { type Kind, kindNames, type Resource, type ResourceOf, type Violation } from "../resources/index.ts";
import { SortedMap } from "../values/index.ts";
import { keyOf, LayerUnits } from "./layer.ts";
import { same } from "./same.ts";
import type { Layer } from "./source.ts";

/** Something wrong in what a source holds. What was good before stays in force beside it. */
export interface Problem extends Violation {
  readonly source: string;
}

export type ByKind = { readonly [K in Kind]: SortedMap<string, ResourceOf<K>> };

/** All that is known at one moment. Keys are `cluster/group/kind/namespace/name`. */
export interface ResourceView {
  readonly resources: SortedMap<string, Resource>;
  readonly byKind: ByKind;
  readonly problems: readonly Problem[];
}

function emptyView(): ResourceView {
  const byKind = Object.fromEntries(kindNames.map((kind) => [kind, SortedMap.empty()])) as unknown as ByKind;
  return { resources: SortedMap.empty(), byKind, problems: [] };
}

/**
 * The last good value of every object of every source. Sources are layers: of two that hold an object of one key the
 * higher precedence wins, and removing it there uncovers the other. An object that did not change stays the same
 * object, and the map of a kind in which nothing changed stays the same map.
 */
export class ResourceStore {
  readonly view = new Cell<ResourceView>(emptyView());
  /** Lowest precedence first. */
  #layers: Array<{ readonly name: string; readonly precedence: number; readonly units: LayerUnits }> = [];

  /** A layer of a source's own. Of equal precedences the later one is higher. */
  layer({ name, precedence = 0 }: { readonly name: string; readonly precedence?: number }): Layer {
    const entry = { name, precedence, units: new LayerUnits() };
    this.#layers = [...this.#layers, entry].sort((a, b) => a.precedence - b.precedence);
    return {
      apply: (updates) => {
        if (this.#layers.includes(entry)) this.#publish(entry.units.apply(updates));
      },
      remove: () => {
        this.#layers = this.#layers.filter((other) => other !== entry);
        this.#publish(new Set(entry.units.keys()));
      },
    };
  }

  /** Shows what became of the touched keys, as one change. */
  #publish(touched: ReadonlySet<string>): void {
    const before = this.view.value;
    const changed = new Map<string, Resource | undefined>();
    for (const key of touched) {
      const holder = this.#holder(key);
      if (holder !== before.resources.get(key)) changed.set(key, holder);
    }
    const problems = this.#problems();
    const sameProblems = same(problems, before.problems);
    if (changed.size === 0 && sameProblems) return;
    this.view.set({
      ...(changed.size === 0 ? before : withChanges(before, changed)),
      problems: sameProblems ? before.problems : Object.freeze(problems),
    });
  }

  #holder(key: string): Resource | undefined {
    for (const { units } of this.#layers.toReversed()) {
      const holder = units.holder(key);
      if (holder) return holder;
    }
    return undefined;
  }

  #problems(): Problem[] {
    return this.#layers.flatMap(({ name, units }) =>
      units.violations().map((violation) => ({ ...violation, source: name })),
    );
  }
}

function withChanges(before: ResourceView, changed: ReadonlyMap<string, Resource | undefined>): ResourceView {
  const byKind = new Map<Kind, Array<readonly [string, Resource | undefined]>>();
  for (const [key, resource] of changed) {
    const kind = (resource ?? before.resources.get(key))?.kind;
    if (kind === undefined) continue;
    const list = byKind.get(kind);
    if (list) list.push([key, resource]);
    else byKind.set(kind, [[key, resource]]);
  }
  const kinds = [...byKind].map(([kind, list]) => {
    const resources: SortedMap<string, Resource> = before.byKind[kind];
    return [kind, resources.with(list)] as const;
  });
  return {
    resources: before.resources.with(changed),
    byKind: { ...before.byKind, ...(Object.fromEntries(kinds) as unknown as Partial<ByKind>) },
    problems: before.problems,
  };
}

export { keyOf };
