import { backoffMs, type Clock, explain, Failure, type Logger, type Scope, sleep } from "../base/index.ts";
import {
  type Collection,
  type KubeClient,
  type KubeObject,
  type ReflectorHealth,
  type ReflectorSink,
  type Served,
  servedVersion,
  startReflector,
} from "../kube/index.ts";
import { decodeResource, type Kind, type KindRow, kinds, type Reading } from "../resources/index.ts";
import type { Layer, UnitUpdate } from "./source.ts";
import type { ResourceStore } from "./store.ts";

export interface KubernetesSourceOptions {
  readonly client: KubeClient;
  /** The name of the cluster that this API server is of. */
  readonly cluster: string;
  /** What to follow. A kind that the cluster does not know is waited for. */
  readonly kinds: readonly Kind[];
  /** Of these, kinds that the caller may be forbidden to read: they count as empty then, and that is said. */
  readonly mayBeForbidden?: readonly Kind[];
  readonly store: ResourceStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly precedence?: number;
}

/** A definition that is not there is looked for again this often. */
const missingRetryMs = 10_000;
const retry = { firstMs: 500, maxMs: 30_000 };

/** Followed kinds that the API server's caller may see late or not at all, each with why; empty when all is current. */
export interface KubernetesSource {
  behind(): ReadonlyArray<{ readonly kind: Kind; readonly since: number; readonly failure: Failure }>;
}

/**
 * Keeps the store up to date with an API server. Resolves when every kind has been read once, so that nobody is told
 * half a cluster; goes on until the scope closes. While the server is away, what was read stays in force.
 */
export async function startKubernetesSource(options: KubernetesSourceOptions, scope: Scope): Promise<KubernetesSource> {
  const { store, precedence = 0, client } = options;
  const layer = store.layer({ name: `Kubernetes ${client.access.name}`, precedence });
  scope.defer(() => layer.remove());
  const behind = new Map<Kind, Extract<ReflectorHealth, { kind: "behind" }>>();
  await Promise.all(options.kinds.map((kind) => followKind({ ...options, kind, layer, behind }, scope)));
  return { behind: () => [...behind].map(([kind, { since, failure }]) => ({ kind, since, failure })) };
}

type Following = KubernetesSourceOptions & {
  readonly kind: Kind;
  readonly layer: Layer;
  readonly behind: Map<Kind, Extract<ReflectorHealth, { kind: "behind" }>>;
};

/** Resolves at the first list; also when there is no such kind, which has no objects then. */
function followKind(following: Following, scope: Scope): Promise<void> {
  const { kind, clock, log } = following;
  const row: KindRow = kinds[kind];
  return new Promise((known, stopped) => {
    scope.defer(() => stopped(new Failure("sources/kubernetes", `stopped before all of ${row.plural} had been read`)));
    if (!isCustom(row)) {
      reflect(following, row.versions[0]!, { scope, known, missing: () => {} });
      return;
    }
    void (async () => {
      let said = false;
      while (!scope.closed) {
        const served = await versionOf(following, row, scope);
        if (scope.closed) return;
        if (served) {
          const own = scope.child();
          await new Promise<void>((missing) => reflect(following, served.version, { scope: own, known, missing }));
          await own.close();
        }
        if (!said)
          log.warn(
            { kind, definition: `${row.plural}.${row.group}` },
            "the cluster does not have this kind; it is waited for",
          );
        said = true;
        known();
        await sleep(clock, missingRetryMs, scope.signal).catch(() => {}); // Only the end of the scope wakes it early.
      }
    })();
  });
}

function isCustom({ group }: KindRow): boolean {
  return group.includes(".") && !group.endsWith(".k8s.io");
}

/** Tries until there is an answer. */
async function versionOf(following: Following, row: KindRow, scope: Scope): Promise<Served> {
  const { client, kind, clock, random, behind } = following;
  const since = clock.now();
  for (let attempt = 1; ; attempt++) {
    try {
      const served = await servedVersion(client, row, scope.signal);
      if (behind.delete(kind)) following.log.info({ kind }, "the API server is back");
      return served;
    } catch (caught) {
      if (scope.closed) return undefined;
      tellBehind(following, { kind: "behind", since, failure: Failure.from(caught) });
      await sleep(clock, backoffMs(attempt, retry, random), scope.signal).catch(() => {}); // As above.
      if (scope.closed) return undefined;
    }
  }
}

function tellBehind({ kind, behind, log }: Following, health: Extract<ReflectorHealth, { kind: "behind" }>): void {
  const first = !behind.has(kind);
  behind.set(kind, health);
  if (first)
    log.warn({ kind, err: health.failure }, "objects of this kind cannot be read now; what was read stays in force");
}

function reflect(
  following: Following,
  version: string,
  { scope, known, missing }: { readonly scope: Scope; readonly known: () => void; readonly missing: () => void },
): void {
  const { client, kind, clock, random, layer, behind, log } = following;
  const row: KindRow = kinds[kind];
  const collection: Collection = { group: row.group, version, plural: row.plural, kind };
  let names = new Set<string>();
  const update = (name: string, reading: Reading | undefined): UnitUpdate => ({ unit: `${kind} ${name}`, reading });
  const sink: ReflectorSink<Reading> = {
    listed(all) {
      const gone = [...names].filter((name) => !all.has(name)).map((name) => update(name, undefined));
      names = new Set(all.keys());
      layer.apply([...[...all].map(([name, reading]) => update(name, reading)), ...gone]);
      known();
    },
    changed(changes) {
      const last = new Map<string, UnitUpdate>();
      for (const change of changes) {
        const { name } = change;
        if (change.kind === "set") names.add(name);
        else names.delete(name);
        last.set(name, update(name, change.kind === "set" ? change.value : undefined));
      }
      layer.apply([...last.values()]);
    },
    health(health) {
      if (health.kind === "current") {
        if (behind.delete(kind)) log.info({ kind }, "objects of this kind are current again");
        return;
      }
      tellBehind(following, health);
      if (health.failure.code === "kube/forbidden" && following.mayBeForbidden?.includes(kind)) known();
      if (health.failure.code === "kube/not-found") void confirmMissing();
    },
  };
  /** The collection is not there: gone with its definition, or only not served yet. */
  async function confirmMissing(): Promise<void> {
    if (!isCustom(row)) return;
    try {
      if (await servedVersion(client, row, scope.signal)) return;
    } catch (caught) {
      // Who may not look keeps what was read: to lose it all by mistake would be worse.
      log.debug({ kind, why: explain(caught) }, "whether the definition is gone cannot be told");
      return;
    }
    behind.delete(kind);
    layer.apply([...names].map((name) => update(name, undefined)));
    names = new Set();
    missing();
  }
  startReflector(
    { client, collection, read: (object) => readingOf(object, following.cluster), sink, clock, random },
    scope,
  );
}

/** An object of the API to what it says to us. Bookkeeping that changes with every status is left out. */
function readingOf(object: KubeObject, cluster: string): Reading {
  const { managedFields: _fields, resourceVersion: _version, ...metadata } = object.metadata;
  const decoded = decodeResource({ ...object, metadata }, { cluster });
  const good = decoded.outcome === "good";
  return {
    resources: good ? [decoded.resource] : [],
    violations: decoded.violations.map((violation) => ({ ...violation, file: objectPlace(object) })),
    wrong: decoded.outcome === "wrong" && decoded.key !== undefined ? [decoded.key] : [],
    complete: good || decoded.outcome === "ignored",
    ignored: decoded.outcome === "ignored" ? 1 : 0,
  };
}

/** What stands in messages where a file's name would: `ServiceEntry foo/httpbin-bar`. */
function objectPlace({ kind = "", metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace === undefined ? "" : `${metadata.namespace}/`}${metadata.name}`;
}
