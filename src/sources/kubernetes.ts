import { backoffMs, type Clock, explain, Failure, type Logger, type Scope, sleep } from "../base/index.ts";
import {
  type Collection,
  type KubeClient,
  type KubeObject,
  objectName,
  type ReflectorHealth,
  type ReflectorSink,
  type Served,
  servedVersion,
  startReflector,
} from "../kube/index.ts";
import { decodeResource, type Kind, type KindRow, kinds, type Reading } from "../resources/index.ts";
import { keptOf } from "./kept.ts";
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
  /** Of these, kinds that are read in some namespaces only, so that the caller needs no right to the others. */
  readonly namespaces?: Partial<Readonly<Record<Kind, readonly string[]>>>;
  /** Who wants objects as they are in the API, with their status and bookkeeping; it keeps what it needs of them. */
  readonly observer?: ObjectObserver;
  readonly store: ResourceStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly precedence?: number;
}

/** Hears of objects as they come, before the store does. */
export interface ObjectObserver {
  /** Undefined: it is gone. `name` is `namespace/name`. */
  seen(kind: Kind, name: string, object: KubeObject | undefined): void;
  /** The version in which a custom kind is read from now on, and whether its status is written apart. */
  served(kind: Kind, served: NonNullable<Served>): void;
}

/** A definition that is not there is looked for again this often. */
const missingRetryMs = 10_000;
const retry = { firstMs: 500, maxMs: 30_000 };

/** Followed kinds that the API server's caller may see late or not at all, each with why; empty when all is current. */
export interface KubernetesSource {
  behind(): ReadonlyArray<{
    readonly kind: Kind;
    /** Where the kind is read in some namespaces only. */
    readonly namespace?: string;
    readonly since: number;
    readonly failure: Failure;
  }>;
}

/**
 * Keeps the store up to date with an API server. Resolves when every kind has been read once, so that nobody is told
 * half a cluster; goes on until the scope closes. While the server is away, what was read stays in force.
 */
export async function startKubernetesSource(options: KubernetesSourceOptions, scope: Scope): Promise<KubernetesSource> {
  const source = followKubernetes(options, scope);
  await source.first;
  return source;
}

/** The same for who wants to say meanwhile what it waits for; `first` resolves when every kind has been read once. */
export function followKubernetes(
  options: KubernetesSourceOptions,
  scope: Scope,
): KubernetesSource & { readonly first: Promise<void> } {
  const { store, precedence = 0, client } = options;
  const layer = store.layer({ name: `Kubernetes ${client.access.name}`, precedence });
  scope.defer(() => layer.remove());
  const behind: Following["behind"] = new Map();
  const first = Promise.all(options.kinds.map((kind) => followKind({ ...options, kind, layer, behind }, scope)));
  return { first: first.then(() => {}), behind: () => [...behind.values()] };
}

type Following = KubernetesSourceOptions & {
  readonly kind: Kind;
  readonly layer: Layer;
  readonly behind: Map<string, ReturnType<KubernetesSource["behind"]>[number]>;
};

/** Resolves at the first list; also when there is no such kind, which has no objects then. */
function followKind(following: Following, scope: Scope): Promise<void> {
  const { kind, clock, log } = following;
  const row: KindRow = kinds[kind];
  return new Promise((known, stopped) => {
    scope.defer(() => stopped(new Failure("sources/kubernetes", `stopped before all of ${row.plural} had been read`)));
    if (!isCustom(row)) {
      const version = row.versions[0]!;
      const namespaces = following.namespaces?.[kind] ?? [undefined];
      const waiting = new Set(namespaces);
      for (const namespace of namespaces) {
        const one = () => {
          waiting.delete(namespace);
          if (waiting.size === 0) known();
        };
        reflect(following, { version, namespace }, { scope, known: one, missing: () => {} });
      }
      if (waiting.size === 0) known();
      return;
    }
    void (async () => {
      let said = false;
      while (!scope.closed) {
        const served = await versionOf(following, row, scope);
        if (scope.closed) return;
        if (served) {
          const own = scope.child();
          const place = { version: served.version, namespace: undefined };
          following.observer?.served(kind, served);
          await new Promise<void>((missing) => reflect(following, place, { scope: own, known, missing }));
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

function tellBehind(
  { kind, behind, log }: Following,
  health: Extract<ReflectorHealth, { kind: "behind" }>,
  namespace?: string,
): void {
  const key = placeKey(kind, namespace);
  const first = !behind.has(key);
  const { since, failure } = health;
  behind.set(key, { kind, since, failure, ...(namespace === undefined ? {} : { namespace }) });
  if (first)
    log.warn(
      { kind, ...(namespace === undefined ? {} : { namespace }), err: failure },
      "objects of this kind cannot be read now; what was read stays in force",
    );
}

const placeKey = (kind: Kind, namespace: string | undefined) =>
  namespace === undefined ? kind : `${kind} ${namespace}`;

function reflect(
  following: Following,
  { version, namespace }: { readonly version: string; readonly namespace: string | undefined },
  { scope, known, missing }: { readonly scope: Scope; readonly known: () => void; readonly missing: () => void },
): void {
  const { client, kind, clock, random, layer, behind, log, observer } = following;
  const row: KindRow = kinds[kind];
  const inside = namespace === undefined ? {} : { namespace };
  const collection: Collection = { group: row.group, version, plural: row.plural, kind, ...inside };
  const place = placeKey(kind, namespace);
  let names = new Set<string>();
  const update = (name: string, reading: Reading | undefined): UnitUpdate => ({ unit: `${kind} ${name}`, reading });
  const sink: ReflectorSink<Reading> = {
    listed(all) {
      const left = [...names].filter((name) => !all.has(name));
      for (const name of left) observer?.seen(kind, name, undefined);
      const gone = left.map((name) => update(name, undefined));
      names = new Set(all.keys());
      layer.apply([...[...all].map(([name, reading]) => update(name, reading)), ...gone]);
      known();
    },
    changed(changes) {
      const last = new Map<string, UnitUpdate>();
      for (const change of changes) {
        const { name } = change;
        if (change.kind === "set") names.add(name);
        else {
          names.delete(name);
          observer?.seen(kind, name, undefined);
        }
        last.set(name, update(name, change.kind === "set" ? change.value : undefined));
      }
      layer.apply([...last.values()]);
    },
    health(health) {
      if (health.kind === "current") {
        if (behind.delete(place)) log.info({ kind, ...inside }, "objects of this kind are current again");
        return;
      }
      tellBehind(following, health, namespace);
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
    behind.delete(place);
    for (const name of names) observer?.seen(kind, name, undefined);
    layer.apply([...names].map((name) => update(name, undefined)));
    names = new Set();
    missing();
  }
  const read = (object: KubeObject): Reading => {
    observer?.seen(kind, objectName(object), object);
    return readingOf(object, following.cluster);
  };
  startReflector({ client, collection, read, sink, clock, random }, scope);
}

/**
 * An object of the API to what it says to us. What we ourselves write into a status is left out, but for addresses, which
 * a mesh begins with: or each write of ours would be news.
 */
function readingOf(object: KubeObject, cluster: string): Reading {
  const { status, ...written } = keptOf(object) as KubeObject;
  const row: KindRow = kinds[object.kind as Kind];
  const addresses = (status as { addresses?: unknown } | undefined)?.addresses;
  const kept = !isCustom(row) ? status : addresses === undefined ? undefined : { addresses };
  const decoded = decodeResource({ ...written, ...(kept === undefined ? {} : { status: kept }) }, { cluster });
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
