import type { Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { type Cell, type Clock, type Logger, type Metrics, Scope } from "../base/index.ts";
import { type Cidr, cidrContains, formatSocketAddress, type SocketAddress } from "../values/index.ts";
import type { Secrets } from "./config/secret.ts";
import type { ConfigStore, ProxyConfig } from "./config/store.ts";
import { type ExplicitDeps, isExplicit, type ResolveDestination, serveExplicit } from "./explicit-listener.ts";
import { handle, type InboundDeps } from "./inbound.ts";
import { AccessLogs } from "./l4/access-log-file.ts";
import type { Connection } from "./l4/connection.ts";
import { roomForConnections } from "./l4/descriptors.ts";
import type { OriginalDestination } from "./l4/original-dst.ts";
import { Stopper } from "./l4/stop.ts";
import { proxyTcp } from "./l4/tcp-proxy.ts";
import { serveHttp, startHttpProxy } from "./l7/serve-http.ts";
import { chainsOf, follow, type RunningChain, type RunningListener, virtualListeners } from "./listener.ts";
import { proxyMetrics } from "./proxy-metrics.ts";
import { type BindShared, Sockets } from "./sockets.ts";
import { TlsContexts } from "./tls/contexts.ts";
import type { EndpointView } from "./upstream/cluster.ts";
import { Clusters } from "./upstream/clusters.ts";
import type { ResolveName } from "./upstream/resolve.ts";

export interface ProxyDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** What to run; whoever talks to the control plane applies changes to it. */
  readonly store: ConfigStore;
  /** Certificates and roots by SDS name, rotated by whoever renews them. */
  readonly secrets: Cell<Secrets>;
  /** For clusters whose endpoints are names. */
  readonly resolve: ResolveName;
  /** Absent where nothing is captured: then only what a connection's own address says counts. */
  readonly originalDestination?: OriginalDestination | undefined;
  /** Ranges that are captured whoever connects to them: what the proxy itself sent there would come back to it. */
  readonly captured?: readonly Cidr[] | undefined;
  /** For listeners whose callers name their destination; without, every such name has no address. */
  readonly resolveDestination?: ResolveDestination;
  /** Where this is one of several processes of the same proxy: who binds addresses for all of them. */
  readonly bind?: BindShared | undefined;
  /** For one bound address; what comes above is closed unseen. */
  readonly maxConnections?: number;
  /** How long connections of a chain that was removed may go on. */
  readonly drainMs?: number;
}

export interface EmbeddedProxy {
  /** Where a listener can be reached; empty while it is not bound. */
  addressesOf(listener: string): readonly SocketAddress[];
  /** Resolves when the sockets follow the configuration that was in force at the time of the call. */
  settled(): Promise<void>;
  readonly listeners: () => readonly ListenerView[];
  readonly clusters: () => readonly ClusterView[];
  /** Connections that are being served. */
  readonly open: number;
}

export interface ListenerView {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly bound: boolean;
  readonly error: string | undefined;
  readonly chains: ReadonlyArray<{ readonly name: string; readonly open: number }>;
}

export interface ClusterView {
  readonly name: string;
  readonly discovery: string;
  /** While nothing is known of a name of it, not even that it has no address. */
  readonly waiting?: true;
  readonly connections: number;
  readonly endpoints: readonly EndpointView[];
}

const defaultDrainMs = 45_000;
const defaultMaxConnections = 100_000;

/**
 * Runs what the store holds: sockets, chains and clusters follow it, connections keep the configuration with which they
 * began. When the scope closes, nothing new is taken, what runs may finish until the deadline, the rest is cut off.
 */
export async function startProxy(deps: ProxyDeps, scope: Scope): Promise<EmbeddedProxy> {
  const proxy = new RunningProxy(deps);
  scope.defer((deadline) => proxy.stop(deadline));
  proxy.start();
  await proxy.settled();
  return proxy;
}

class RunningProxy implements EmbeddedProxy {
  readonly #deps: ProxyDeps;
  readonly #metrics: ReturnType<typeof proxyMetrics>;
  readonly #contexts: TlsContexts;
  readonly #clusters: Clusters;
  readonly #logs: AccessLogs;
  readonly #sockets: Sockets;
  readonly #inbound: InboundDeps;
  readonly #explicit: ExplicitDeps;
  readonly #scope = new Scope();
  readonly #http: ReturnType<typeof startHttpProxy>;
  readonly #stopping = new Stopper();
  readonly #connections = new Set<Socket>();
  /** Chains that no listener has any more, while connections still run on them. */
  readonly #leaving = new Set<RunningChain>();
  #listeners = new Map<string, RunningListener>();
  #virtual: ReadonlyMap<string, RunningListener> = new Map();
  #following: Promise<void> = Promise.resolve();
  #lastId = 0;
  #unsubscribe: (() => void) | undefined;
  #idle: (() => void) | undefined;

  constructor(deps: ProxyDeps) {
    const { clock, random, log, metrics } = deps;
    this.#deps = deps;
    this.#metrics = proxyMetrics(metrics);
    this.#contexts = new TlsContexts(() => deps.secrets.value);
    this.#clusters = new Clusters({
      clock,
      random,
      log,
      contexts: this.#contexts,
      resolve: deps.resolve,
      isOwn: (address) => this.#isOwn(address),
    });
    this.#logs = new AccessLogs({ clock, log, shared: deps.bind !== undefined });
    this.#http = startHttpProxy({ clock, random, log, metrics, upstreams: this.#clusters }, this.#scope);
    this.#sockets = new Sockets({
      clock,
      random,
      log,
      bind: deps.bind,
      maxConnections:
        deps.maxConnections ?? Math.min(defaultMaxConnections, roomForConnections() ?? defaultMaxConnections),
      onConnection: (socket, listener) => this.#onConnection(socket, listener),
      onShed: (reason) => this.#metrics.shed(reason),
    });
    this.#inbound = {
      clock,
      log,
      contexts: this.#contexts,
      originalDestination: deps.originalDestination,
      virtual: () => this.#virtual,
      accessLog: ({ config }) => this.#logs.for(config.accessLogs),
      refused: (listener, reason) => this.#metrics.refused(listener, reason),
      serve: (connection, chain, listener) => this.#serve(connection, chain, listener),
      nextId: () => ++this.#lastId,
    };
    this.#explicit = {
      inbound: this.#inbound,
      resolveDestination: deps.resolveDestination ?? (() => Promise.resolve([])),
      http: this.#http,
      routes: (name) => deps.store.active.value.routes.get(name),
      accessLogOf: (manager) => this.#logs.for(manager.accessLogs),
    };
  }

  start(): void {
    const { store } = this.#deps;
    this.#follow(store.active.value);
    this.#unsubscribe = store.active.subscribe((config) => this.#follow(config));
  }

  addressesOf(listener: string): readonly SocketAddress[] {
    return this.#sockets.addressesOf(listener);
  }

  settled(): Promise<void> {
    return this.#following;
  }

  get open(): number {
    return this.#connections.size;
  }

  readonly listeners = (): readonly ListenerView[] =>
    [...this.#listeners.values()].map((listener) => {
      const { name, bind, addresses } = listener.config;
      const errors = this.#sockets.view().flatMap((each) => (each.listener === name && each.error ? [each.error] : []));
      return {
        name,
        addresses: (bind ? this.#sockets.addressesOf(name) : addresses).map(formatSocketAddress),
        bound: bind,
        error: errors[0],
        chains: chainsOf(listener).map((chain) => ({ name: chain.config.name, open: chain.open })),
      };
    });

  readonly clusters = (): readonly ClusterView[] =>
    this.#clusters.all().map((cluster) => ({
      name: cluster.name,
      discovery: cluster.config.discovery.kind,
      ...(this.#clusters.waiting(cluster.name) ? { waiting: true as const } : {}),
      connections: cluster.connections,
      endpoints: cluster.view(),
    }));

  /** Drains until the deadline, then cuts off. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#unsubscribe?.();
    this.#sockets.close();
    await this.#following;
    for (const listener of this.#listeners.values()) for (const chain of chainsOf(listener)) chain.drain();
    if (this.#connections.size > 0 && !deadline.aborted)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        deadline.addEventListener("abort", () => resolve(), { once: true });
      });
    this.#stopping.abort();
    for (const listener of this.#listeners.values()) for (const chain of chainsOf(listener)) chain.end();
    for (const chain of this.#leaving) chain.end();
    for (const socket of this.#connections) socket.destroy();
    this.#clusters.stop();
    await this.#scope.close();
    await this.#logs.stop();
  }

  /** Clusters first: a listener that is new must find where it sends. */
  #follow(config: ProxyConfig): void {
    this.#clusters.follow(config);
    const next = new Map<string, RunningListener>();
    for (const [name, wanted] of config.listeners) {
      const before = this.#listeners.get(name);
      if (before?.config === wanted) {
        next.set(name, before);
        continue;
      }
      const { listener, left } = follow(wanted, before);
      next.set(name, listener);
      for (const chain of left) this.#retire(chain);
    }
    const changed =
      next.size !== this.#listeners.size ||
      [...next].some(([name, listener]) => this.#listeners.get(name) !== listener);
    if (!changed) return;
    for (const [name, before] of this.#listeners)
      if (!next.has(name)) for (const chain of chainsOf(before)) this.#retire(chain);
    this.#listeners = next;
    this.#virtual = virtualListeners(next.values());
    const bound = boundAddresses(config);
    this.#following = this.#following.then(() => (this.#stopping.aborted ? undefined : this.#sockets.follow(bound)));
  }

  #retire(chain: RunningChain): void {
    chain.drain();
    if (chain.open === 0) return;
    this.#leaving.add(chain);
    const { clock, drainMs = defaultDrainMs } = this.#deps;
    clock.after(
      drainMs,
      () => {
        this.#leaving.delete(chain);
        chain.end();
      },
      { background: true },
    );
  }

  #onConnection(socket: Socket, listenerName: string): void {
    const listener = this.#listeners.get(listenerName);
    if (!listener || this.#stopping.aborted) {
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    this.#metrics.accepted(listenerName);
    this.#metrics.active(listenerName, 1);
    socket.once("close", () => {
      this.#connections.delete(socket);
      this.#metrics.active(listenerName, -1);
      if (this.#connections.size === 0) this.#idle?.();
    });
    const signal = this.#stopping;
    const handled = isExplicit(listener.config)
      ? serveExplicit(socket, { listener, signal }, this.#explicit)
      : handle(socket, { listener, signal }, this.#inbound);
    handled.catch((caught: unknown) => {
      this.#deps.log.error({ listener: listenerName, err: caught }, "connection handling failed");
      socket.destroy();
    });
  }

  #serve(connection: Connection, chain: RunningChain, _listener: RunningListener): Promise<void> {
    const { terminal } = chain.config;
    const { clock, random, store } = this.#deps;
    if (terminal.kind === "http")
      return serveHttp(connection, {
        http: this.#http,
        manager: terminal.manager,
        routes: (name) => store.active.value.routes.get(name),
        accessLog: this.#logs.for(terminal.manager.accessLogs),
      });
    return proxyTcp(connection, terminal.tcp, {
      clock,
      random,
      upstreams: this.#clusters,
      accessLog: this.#logs.for(terminal.tcp.accessLogs),
      count: (result) => this.#metrics.tcp(connection.listener, result),
    });
  }

  /** Whether connecting there would come back to one of our own sockets. */
  #isOwn(address: SocketAddress): boolean {
    if (this.#deps.captured?.some((range) => cidrContains(range, address.ip))) return true;
    if (!this.#sockets.ports.has(address.port)) return false;
    if (address.ip.startsWith("127.") || address.ip === "::1" || address.ip === "0.0.0.0" || address.ip === "::")
      return true;
    return Object.values(networkInterfaces()).some((all) => all?.some((each) => each.address === address.ip));
  }
}

/** Every address that is to be bound, with the listener that its connections go to. */
export function boundAddresses({ listeners }: Pick<ProxyConfig, "listeners">) {
  return [...listeners.values()].flatMap(({ name, bind, addresses }) =>
    bind ? addresses.map((address) => ({ address, listener: name })) : [],
  );
}
