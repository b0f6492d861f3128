import { type Decoded, decodeResource, readResources, type Violation } from "../resources/index.ts";
import type { Layer } from "./source.ts";
import type { ResourceStore } from "./store.ts";

/** Objects set by hand: by the program itself, or by a test. */
export interface MemorySource {
  /** Sets objects, each on its own. One that is wrong keeps its last good value and comes back as violations. */
  put(objects: readonly unknown[]): readonly Violation[];
  /** Replaces what the text `name` held by what this one holds, as a file would. */
  putText(name: string, text: string): readonly Violation[];
  /** Takes objects away by key; keys that are not there are no matter. */
  remove(keys: readonly string[]): void;
  removeText(name: string): void;
  /** Takes everything away. */
  close(): void;
}

export function memorySource(options: {
  readonly store: ResourceStore;
  readonly cluster: string;
  readonly name?: string;
  readonly precedence?: number;
  readonly defaultNamespace?: string;
}): MemorySource {
  const { store, cluster, name = "memory", precedence = 0, defaultNamespace } = options;
  const layer: Layer = store.layer({ name, precedence });
  const context = { cluster, ...(defaultNamespace === undefined ? {} : { defaultNamespace }) };
  return {
    put(objects) {
      const decoded = objects.map((object) => decodeResource(object, context));
      layer.apply(decoded.flatMap(updateOf));
      return decoded.flatMap(({ violations }) => violations);
    },
    putText(unit, text) {
      const reading = readResources(text, { ...context, file: unit });
      layer.apply([{ unit: `text ${unit}`, reading }]);
      return reading.violations;
    },
    remove: (keys) => layer.apply(keys.map((key) => ({ unit: `object ${key}`, reading: undefined }))),
    removeText: (unit) => layer.apply([{ unit: `text ${unit}`, reading: undefined }]),
    close: () => layer.remove(),
  };
}

function updateOf(decoded: Decoded) {
  if (decoded.outcome === "ignored" || decoded.key === undefined) return [];
  const good = decoded.outcome === "good";
  const reading = {
    resources: good ? [decoded.resource] : [],
    violations: decoded.violations,
    wrong: good ? [] : [decoded.key],
    complete: true,
    ignored: 0,
  };
  return [{ unit: `object ${decoded.key}`, reading }];
}
