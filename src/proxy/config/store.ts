import { Cell, type Clock, type Logger } from "../../base/index.ts";
import { RouteConfigurationSchema } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import { formatSocketAddress } from "../../values/index.ts";
import { type ClusterConfig, readCluster } from "./cluster.ts";
import { type LoadAssignment, readEndpoints } from "./endpoints.ts";
import { type ListenerConfig, readListener, routesOf } from "./listener.ts";
import { formatRefusals, type Read, readBytes } from "./reading.ts";
import type { RouteTable } from "./route.ts";
import { readRouteConfiguration } from "./route-table.ts";
import { readSecret, type Secret, type Secrets } from "./secret.ts";
import { agentSecretsOf, type DownstreamTls, toldSecretsOf, type UpstreamTls } from "./tls.ts";

/** A resource as it came: encoded, with the version that the server gave it. */
export interface Incoming {
  readonly name: string;
  readonly version?: string;
  readonly bytes: Uint8Array;
}

/** A resource that was not taken; what was there before stays in force. `message` is the text of the NACK. */
export interface RefusedResource {
  readonly name: string;
  readonly message: string;
}

/** What runs. A new value at each change; parts that did not change are the same objects. */
export interface ProxyConfig {
  readonly listeners: ReadonlyMap<string, ListenerConfig>;
  readonly clusters: ReadonlyMap<string, ClusterConfig>;
  /** By EDS service name. */
  readonly endpoints: ReadonlyMap<string, LoadAssignment>;
  readonly routes: ReadonlyMap<string, RouteTable>;
}

/** Names that the accepted clusters and listeners ask for: what to subscribe to. */
export interface Wanted {
  readonly endpoints: ReadonlySet<string>;
  readonly routes: ReadonlySet<string>;
  /** Asked of the control plane. */
  readonly secrets: ReadonlySet<string>;
  /** Asked of the agent. */
  readonly agentSecrets: ReadonlySet<string>;
}

interface NamedSecret {
  readonly name: string;
  readonly secret: Secret;
}

/** What was taken: resources that are new or changed, and names that were removed. */
export type OnTaken = (type: TypeUrl, updated: readonly Incoming[], removed: readonly string[]) => void;

interface Kept<T> {
  readonly value: T;
  readonly bytes: Uint8Array;
  readonly version: string;
  readonly acceptedMs: number;
}

export interface DumpedResource {
  readonly type: TypeUrl;
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
  readonly acceptedMs: number;
  readonly state: "active" | "warming";
}

const readers = {
  [typeUrls.cluster]: readCluster,
  [typeUrls.endpoints]: readEndpoints,
  [typeUrls.listener]: readListener,
  [typeUrls.route]: (bytes: Uint8Array): Read<RouteTable> =>
    readBytes(RouteConfigurationSchema, bytes, readRouteConfiguration),
  [typeUrls.secret]: readSecret,
} as const;

type Kind = keyof typeof readers;
const isKind = (type: TypeUrl): type is Kind => type in readers;

const nothingWanted: Wanted = { endpoints: new Set(), routes: new Set(), secrets: new Set(), agentSecrets: new Set() };

/** How long a changed listener or cluster may wait for its routes or endpoints before it is put to work without them. */
const warmingMs = 15_000;

/**
 * The configuration: what was accepted, what of it is in force, and what is still missing. A cluster waits for its
 * endpoints and a listener for its routes, the old ones serving on, so that no call meets a half-told change.
 */
export class ConfigStore {
  readonly active: Cell<ProxyConfig>;
  readonly wanted: Cell<Wanted>;
  /** Keys and roots that the control plane told. One that it no longer has stays while something uses it. */
  readonly secrets = new Cell<Secrets>(new Map());
  /** Secrets that were asked for and answered, be it that there is none: nobody waits for those. */
  readonly #answered = new Set<string>();
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onTaken: OnTaken;
  readonly #kept: { [K in Kind]: Map<string, Kept<unknown>> };
  /** When waiting began, by type and name. */
  readonly #waitingSince = new Map<string, number>();
  readonly #refused = new Map<string, string>();
  #wake: { cancel(): void } | undefined;

  /** `onTaken` is told before what was taken is in force. */
  constructor(deps: { readonly clock: Clock; readonly log: Logger; readonly onTaken?: OnTaken }) {
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onTaken = deps.onTaken ?? (() => {});
    this.#kept = {
      [typeUrls.cluster]: new Map(),
      [typeUrls.endpoints]: new Map(),
      [typeUrls.listener]: new Map(),
      [typeUrls.route]: new Map(),
      [typeUrls.secret]: new Map(),
    };
    this.active = new Cell<ProxyConfig>({
      listeners: new Map(),
      clusters: new Map(),
      endpoints: new Map(),
      routes: new Map(),
    });
    this.wanted = new Cell<Wanted>(nothingWanted);
  }

  /**
   * Takes what changed and drops what was removed, resource by resource: one that is refused leaves its last good
   * value in force and keeps no other from being taken. Types that a proxy does not run are ignored.
   */
  apply(type: TypeUrl, changed: readonly Incoming[], removed: readonly string[]): readonly RefusedResource[] {
    if (!isKind(type)) return [];
    const kept = this.#kept[type];
    const refusals: RefusedResource[] = [];
    const taken: Incoming[] = [];
    let different = type === typeUrls.secret && this.#answer([...changed.map(({ name }) => name), ...removed]);
    // Endpoints and routes that the server drops stay while something asks for them: who asks is dropped in its turn.
    for (const name of removed) {
      this.#refused.delete(`${type} ${name}`);
      if (type === typeUrls.cluster || type === typeUrls.listener) different = kept.delete(name) || different;
    }
    for (const { name, version = "", bytes } of changed) {
      const before = kept.get(name);
      if (before && Buffer.compare(before.bytes, bytes) === 0) {
        kept.set(name, { ...before, version });
        this.#refused.delete(`${type} ${name}`);
        continue;
      }
      const read = this.#read(type, name, bytes);
      if (read.ok) {
        kept.set(name, { value: read.value, bytes, version, acceptedMs: this.#clock.now() });
        this.#refused.delete(`${type} ${name}`);
        taken.push({ name, version, bytes });
        different = true;
      } else {
        const message = formatRefusals(read.refusals);
        this.#refused.set(`${type} ${name}`, message);
        refusals.push({ name, message });
        this.#log.warn({ type: type.split(".").pop(), name, reason: message }, "configuration refused");
      }
    }
    // A secret that cannot be read is answered too, and nobody waits for it.
    const dropped = type === typeUrls.secret ? [...removed, ...refusals.map(({ name }) => name)] : removed;
    if (taken.length > 0 || dropped.length > 0) this.#onTaken(type, taken, dropped);
    if (different) this.#settle();
    return refusals;
  }

  /** Whether any of them was not answered before. */
  #answer(names: readonly string[]): boolean {
    const before = this.#answered.size;
    for (const name of names) this.#answered.add(name);
    return this.#answered.size > before;
  }

  /** All that another store has to be told to be like this one, keys among it; `absent` are secrets that there are none of. */
  whole(): {
    readonly resources: readonly (Incoming & { readonly type: TypeUrl })[];
    readonly absent: readonly string[];
  } {
    const secrets = this.#kept[typeUrls.secret];
    return {
      resources: (Object.keys(readers) as Kind[]).flatMap((type) =>
        [...this.#kept[type]].map(([name, { version, bytes }]) => ({ type, name, version, bytes })),
      ),
      absent: [...this.#answered].filter((name) => !secrets.has(name)),
    };
  }

  /** Everything accepted, for the admin's dump. There are no secrets among it. */
  dump(): readonly DumpedResource[] {
    const { listeners, clusters } = this.active.value;
    const shown = (Object.keys(readers) as Kind[]).filter((type) => type !== typeUrls.secret);
    return shown.flatMap((type) =>
      [...this.#kept[type]].map(([name, kept]): DumpedResource => {
        const running: ReadonlyMap<string, unknown> | undefined =
          type === typeUrls.listener ? listeners : type === typeUrls.cluster ? clusters : undefined;
        const state = running && running.get(name) !== kept.value ? "warming" : "active";
        return { type, name, version: kept.version, bytes: kept.bytes, acceptedMs: kept.acceptedMs, state };
      }),
    );
  }

  /** What was refused last and has not been mended: `type name` to why. */
  get refused(): ReadonlyMap<string, string> {
    return this.#refused;
  }

  /** How many listeners and clusters are accepted and not in force yet. */
  get warming(): number {
    return this.#waitingSince.size;
  }

  stop(): void {
    this.#wake?.cancel();
    this.#wake = undefined;
  }

  #read(type: Kind, name: string, bytes: Uint8Array): Read<unknown> {
    const read: Read<unknown> = readers[type](bytes);
    if (!read.ok) return read;
    if (type === typeUrls.listener) {
      const conflict = this.#addressTaken(read.value as ListenerConfig);
      if (conflict) return { ok: false, refusals: [{ path: "address", message: conflict }] };
    }
    const own = (read.value as { readonly name: string }).name;
    if (own !== name)
      return { ok: false, refusals: [{ path: "name", message: `is "${own}", announced as "${name}"` }] };
    return read;
  }

  #addressTaken(listener: ListenerConfig): string | undefined {
    for (const [name, { value }] of this.#kept[typeUrls.listener]) {
      const other = value as ListenerConfig;
      if (name === listener.name || other.bind !== listener.bind) continue;
      for (const address of listener.addresses) {
        const text = formatSocketAddress(address);
        if (address.port !== 0 && other.addresses.some((each) => formatSocketAddress(each) === text))
          return `"${text}" is taken by listener "${name}"`;
      }
    }
    return undefined;
  }

  /** Works out what is in force now, what is asked for, and when to look again. */
  #settle(): void {
    const clusters = this.#kept[typeUrls.cluster] as Map<string, Kept<ClusterConfig>>;
    const listeners = this.#kept[typeUrls.listener] as Map<string, Kept<ListenerConfig>>;
    const wantedEndpoints = new Set<string>();
    for (const { value } of clusters.values())
      if (value.discovery.kind === "eds") wantedEndpoints.add(value.discovery.serviceName);
    const wantedRoutes = new Set<string>();
    for (const { value } of listeners.values()) for (const name of routesOf(value)) wantedRoutes.add(name);
    const before = this.active.value;
    const tls = tlsOf(values(listeners), values(clusters));
    const wantedSecrets = new Set(tls.flatMap(toldSecretsOf));
    // What still serves with the old value keeps its routes and endpoints too, and its keys.
    const served = tlsOf(before.listeners.values(), before.clusters.values());
    const servedRoutes = new Set([...wantedRoutes, ...[...before.listeners.values()].flatMap(routesOf)]);
    const servedSecrets = new Set([...wantedSecrets, ...served.flatMap(toldSecretsOf)]);
    this.#forget(typeUrls.endpoints, wantedEndpoints);
    this.#forget(typeUrls.route, servedRoutes);
    this.#forget(typeUrls.secret, servedSecrets);
    for (const name of this.#answered) if (!servedSecrets.has(name)) this.#answered.delete(name);
    const endpoints = this.#values<LoadAssignment>(typeUrls.endpoints);
    const routes = this.#values<RouteTable>(typeUrls.route);
    const unanswered = (list: readonly (DownstreamTls | UpstreamTls | undefined)[]) =>
      list.flatMap(toldSecretsOf).filter((name) => !this.#answered.has(name));
    const next: ProxyConfig = {
      clusters: this.#ripe(typeUrls.cluster, clusters, before.clusters, (cluster) => [
        ...(cluster.discovery.kind === "eds" && !endpoints.has(cluster.discovery.serviceName)
          ? [cluster.discovery.serviceName]
          : []),
        ...unanswered(tlsOf([], [cluster])),
      ]),
      listeners: this.#ripe(typeUrls.listener, listeners, before.listeners, (listener) => [
        ...routesOf(listener).filter((name) => !routes.has(name)),
        ...unanswered(tlsOf([listener], [])),
      ]),
      endpoints,
      routes,
    };
    this.#sleep();
    this.#show();
    // Subscriptions first: whoever watches `active` may ask what is missing.
    const wanted: Wanted = {
      endpoints: wantedEndpoints,
      routes: wantedRoutes,
      secrets: wantedSecrets,
      agentSecrets: new Set([...tls, ...served].flatMap(agentSecretsOf)),
    };
    const known = this.wanted.value;
    if ((Object.keys(wanted) as (keyof Wanted)[]).some((key) => !sameSet(known[key], wanted[key])))
      this.wanted.set(wanted);
    this.active.set(next);
  }

  /** Keys before what uses them. */
  #show(): void {
    const told = this.#values<NamedSecret>(typeUrls.secret);
    const before = this.secrets.value;
    if (told.size === before.size && [...told].every(([name, { secret }]) => before.get(name) === secret)) return;
    this.secrets.set(new Map([...told].map(([name, { secret }]) => [name, secret])));
  }

  #values<T>(type: Kind): ReadonlyMap<string, T> {
    return new Map([...this.#kept[type]].map(([name, { value }]) => [name, value as T]));
  }

  #forget(type: Kind, wanted: ReadonlySet<string>): void {
    for (const name of this.#kept[type].keys()) if (!wanted.has(name)) this.#kept[type].delete(name);
  }

  #ripe<T>(
    type: Kind,
    accepted: ReadonlyMap<string, Kept<T>>,
    running: ReadonlyMap<string, T>,
    missing: (value: T) => readonly string[],
  ): ReadonlyMap<string, T> {
    const ripe = new Map<string, T>();
    for (const [name, { value }] of accepted) {
      const key = `${type} ${name}`;
      const lacks = running.get(name) === value ? [] : missing(value);
      if (lacks.length === 0) {
        this.#waitingSince.delete(key);
        ripe.set(name, value);
        continue;
      }
      const since = this.#waitingSince.get(key) ?? this.#clock.monotonic();
      this.#waitingSince.set(key, since);
      if (this.#clock.monotonic() - since >= warmingMs) {
        this.#waitingSince.delete(key);
        this.#log.warn({ name, missing: lacks }, "waited long enough; put to work without");
        ripe.set(name, value);
        continue;
      }
      const old = running.get(name);
      if (old !== undefined) ripe.set(name, old);
    }
    for (const key of this.#waitingSince.keys())
      if (key.startsWith(`${type} `) && !accepted.has(key.slice(type.length + 1))) this.#waitingSince.delete(key);
    return ripe;
  }

  #sleep(): void {
    this.#wake?.cancel();
    this.#wake = undefined;
    const oldest = Math.min(...this.#waitingSince.values());
    if (!Number.isFinite(oldest)) return;
    const wait = Math.max(0, oldest + warmingMs - this.#clock.monotonic());
    this.#wake = this.#clock.after(wait, () => this.#settle(), { background: true });
  }
}

function* values<T>(kept: ReadonlyMap<string, Kept<T>>): Iterable<T> {
  for (const { value } of kept.values()) yield value;
}

/** Every TLS configuration of these listeners and clusters. */
function tlsOf(
  listeners: Iterable<ListenerConfig>,
  clusters: Iterable<ClusterConfig>,
): readonly (DownstreamTls | UpstreamTls | undefined)[] {
  const found: (DownstreamTls | UpstreamTls | undefined)[] = [];
  for (const { chains, defaultChain } of listeners) found.push(...chains.map(({ tls }) => tls), defaultChain?.tls);
  for (const { transport, transportMatches } of clusters)
    found.push(transport.tls, ...transportMatches.map((one) => one.transport.tls));
  return found;
}

function sameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((each) => b.has(each));
}
