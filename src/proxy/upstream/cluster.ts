import { setMaxListeners } from "node:events";
import { type Clock, Failure, type Logger } from "../../base/index.ts";
import { formatSocketAddress, type Ip, type SocketAddress } from "../../values/index.ts";
import type { SlowStart } from "../config/balancing.ts";
import type { ClusterConfig } from "../config/cluster.ts";
import type { LoadAssignment } from "../config/endpoints.ts";
import type { UpstreamTransport } from "../config/transport.ts";
import type { TlsContexts } from "../tls/contexts.ts";
import { type Balancer, buildBalancer, type Level } from "./balancer.ts";
import { connectTo } from "./connect.ts";
import { HealthWatch } from "./health.ts";
import { eject, innocent, isOutlier, mayEject, nextOutlierState, type OutlierState, readmit } from "./outlier.ts";
import type { Resolution } from "./resolve.ts";
import type { ConnectOptions, Endpoint, Outcome, PickContext, Picked, Upstream, UpstreamSocket } from "./upstream.ts";

export interface ClusterDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly contexts: TlsContexts;
  /** Whether an address is one of this proxy's own sockets: connecting there would go round in a circle. */
  readonly isOwn: (address: SocketAddress) => boolean;
}

/** What is counted of one endpoint. */
interface Running {
  active: number;
  outlier: OutlierState;
  readonly counts: { success: number; error: number; connectFailure: number };
  /** Since when it takes part, monotonic. */
  sinceMs: number;
}

/** One endpoint as the admin shows it. */
export interface EndpointView {
  readonly address: string;
  readonly priority: number;
  readonly weight: number;
  readonly health: "healthy" | "told unhealthy" | "left out" | "not well";
  readonly active: number;
  readonly success: number;
  readonly error: number;
  readonly connectFailure: number;
}

const noDestination = "no original destination: the connection was not redirected here";

/** A cluster while it runs: its endpoints, whose turn it is, who misbehaved, how many connections there are. */
export class RunningCluster implements Upstream {
  readonly config: ClusterConfig;
  readonly #deps: ClusterDeps;
  #levels: readonly Level[] = [];
  #overprovisioning = 140;
  #told = new Map<string, { readonly endpoint: Endpoint; readonly healthy: boolean }>();
  #balancer: Balancer | undefined;
  #running = new WeakMap<Endpoint, Running>();
  #ejected = new Set<Endpoint>();
  #connections = 0;
  #why = "no endpoints have arrived yet";
  readonly #gone = new AbortController();
  #settling: Promise<void> | undefined;
  readonly #removed = new Set<(keys: ReadonlySet<string>) => void>();
  readonly #ownDestinations = new Map<string, Endpoint>();
  readonly #health: HealthWatch | undefined;
  readonly #slowStart: SlowStart | undefined;

  constructor(config: ClusterConfig, deps: ClusterDeps) {
    this.config = config;
    this.#deps = deps;
    // Every connection pool listens to it.
    setMaxListeners(0, this.#gone.signal);
    const { balancing, health } = config;
    this.#slowStart = "slowStart" in balancing ? balancing.slowStart : undefined;
    this.#health =
      health &&
      new HealthWatch(health, {
        ...deps,
        cluster: config.name,
        connect: (endpoint, signal) => {
          const { ip } = endpoint.address;
          const asked = health.port === undefined ? endpoint : { ...endpoint, address: { ip, port: health.port } };
          return this.#open(asked, { signal });
        },
        tell: (endpoint) => this.#healthChanged(endpoint),
      });
  }

  get name(): string {
    return this.config.name;
  }
  get metadata() {
    return this.config.metadata;
  }
  get httpProtocol() {
    return this.config.httpProtocol;
  }
  get maxRequestsPerConnection() {
    return this.config.maxRequestsPerConnection;
  }
  get idleTimeoutMs() {
    return this.config.idleTimeoutMs;
  }
  get maxDurationMs() {
    return this.config.maxDurationMs;
  }
  get announces(): boolean {
    const { transport, transportMatches } = this.config;
    return transport.proxyHeader !== undefined || transportMatches.some((one) => one.transport.proxyHeader);
  }
  get limits() {
    return this.config.limits;
  }
  get gone(): AbortSignal {
    return this.#gone.signal;
  }
  get connections(): number {
    return this.#connections;
  }

  /**
   * Takes who answers from now on. `resolved` gives the addresses of endpoints that are names; without it only numbers
   * count. An endpoint that says the same as before stays the same object, with its counts and its health.
   */
  assign(assignment: LoadAssignment, resolved?: ReadonlyMap<string, Resolution>): void {
    const before = this.#told;
    const told: typeof before = new Map();
    const levels: Array<{ groups: Array<{ weight: number | undefined; endpoints: Endpoint[] }> }> = [];
    const unresolved: string[] = [];
    for (const group of [...assignment.localities].sort((a, b) => a.priority - b.priority)) {
      const endpoints: Endpoint[] = [];
      for (const each of group.endpoints) {
        const found = resolved?.get(each.host);
        if (found?.kind === "failed") unresolved.push(`"${each.host}": ${found.reason}`);
        for (const ip of resolved ? (found?.addresses ?? []) : [each.host as Ip]) {
          const address = { ip, port: each.port };
          const key = formatSocketAddress(address);
          // The same address twice is one endpoint, at its first place.
          if (told.has(key)) continue;
          const made: Endpoint = {
            address,
            key,
            weight: each.weight,
            priority: group.priority,
            metadata: each.metadata,
          };
          const old = before.get(key)?.endpoint;
          const endpoint = old && sameEndpoint(old, made) ? old : made;
          if (old && old !== endpoint) this.#inherit(old, endpoint);
          told.set(key, { endpoint, healthy: each.healthy });
          // From now on it takes part.
          if (this.#slowStart) this.#runningOf(endpoint);
          endpoints.push(endpoint);
        }
      }
      while (levels.length <= group.priority && levels.length < 129) levels.push({ groups: [] });
      levels[group.priority]!.groups.push({ weight: group.weight, endpoints });
    }
    this.#told = told;
    this.#levels = levels;
    this.#overprovisioning = assignment.overprovisioning;
    this.#why =
      unresolved.length > 0
        ? unresolved.join("; ")
        : told.size === 0
          ? `the cluster has no endpoints${this.#leavesBy()}`
          : "no endpoint is healthy";
    this.#balancer = undefined;
    this.#health?.watch([...told.values()].map(({ endpoint }) => endpoint));
    for (const endpoint of this.#ejected)
      if (told.get(endpoint.key)?.endpoint !== endpoint) this.#ejected.delete(endpoint);
    const left = new Set([...before.keys()].filter((key) => !told.has(key)));
    if (left.size > 0) for (const notify of [...this.#removed]) notify(left);
  }

  /** Until then it is not known whom the cluster has. */
  settle(first: Promise<void>): void {
    this.#settling = first.then(() => {
      this.#settling = undefined;
    });
  }

  get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  /** Said of clusters that have an egress gateway between. */
  #leavesBy(): string {
    const { leaves_by: gateway } = (this.config.metadata["isthmus"] ?? {}) as { readonly leaves_by?: unknown };
    return typeof gateway === "string" ? `: calls leave by egress gateway "${gateway}", of which nothing is there` : "";
  }

  pick(context: PickContext): Picked {
    if (this.config.discovery.kind === "original-destination") return this.#pickOwn(context.destination);
    this.#balancer ??= this.#makeBalancer();
    const { hash, tried, triedPriorities } = context;
    const endpoint = this.#balancer.pick({ hash, avoid: tried, avoidLevels: triedPriorities });
    return endpoint ? { kind: "endpoint", endpoint } : { kind: "none", flag: "UH", reason: this.#reason() };
  }

  async connect(endpoint: Endpoint, options: ConnectOptions = {}): Promise<UpstreamSocket> {
    const { maxConnections } = this.config.limits;
    if (this.#connections >= maxConnections)
      throw new Failure("upstream/overflow", `the limit of ${maxConnections} connections is reached`, {
        hint: "raise connectionPool.tcp.maxConnections of its DestinationRule",
      });
    this.#connections++;
    try {
      const connected = await this.#open(endpoint, options);
      if (connected.socket.closed) this.#connections--;
      else connected.socket.once("close", () => this.#connections--);
      return connected;
    } catch (caught) {
      this.#connections--;
      throw caught;
    }
  }

  begin(endpoint: Endpoint): (outcome: Outcome) => void {
    const running = this.#runningOf(endpoint);
    running.active++;
    let ended = false;
    return (outcome) => {
      if (ended) return;
      ended = true;
      running.active--;
      this.#record(endpoint, running, outcome);
    };
  }

  onEndpointsRemoved(notify: (keys: ReadonlySet<string>) => void): () => void {
    const own = (keys: ReadonlySet<string>) => notify(keys);
    this.#removed.add(own);
    return () => {
      this.#removed.delete(own);
    };
  }

  /** The cluster was removed, or replaced by one that says something else. */
  end(): void {
    this.#health?.stop();
    this.#gone.abort(new Failure("upstream/gone", `cluster "${this.name}" was removed or changed`));
    this.#removed.clear();
  }

  view(): readonly EndpointView[] {
    const all = [
      ...this.#told.values(),
      ...[...this.#ownDestinations.values()].map((endpoint) => ({ endpoint, healthy: true })),
    ];
    return all.map(({ endpoint, healthy }) => {
      const running = this.#running.get(endpoint);
      return {
        address: endpoint.key,
        priority: endpoint.priority,
        weight: endpoint.weight,
        health: this.#ejected.has(endpoint)
          ? "left out"
          : !healthy
            ? "told unhealthy"
            : this.#health?.stateOf(endpoint) === "failing"
              ? "not well"
              : "healthy",
        active: running?.active ?? 0,
        ...(running?.counts ?? { success: 0, error: 0, connectFailure: 0 }),
      };
    });
  }

  #pickOwn(destination: SocketAddress | undefined): Picked {
    if (!destination) return { kind: "none", flag: "UH", reason: noDestination };
    const discovery = this.config.discovery;
    const port = (discovery.kind === "original-destination" ? discovery.port : undefined) ?? destination.port;
    const address = { ip: destination.ip, port };
    const key = formatSocketAddress(address);
    if (this.#deps.isOwn(address))
      return {
        kind: "none",
        flag: "UH",
        reason: `"${key}" leads back to this proxy: the call would go round in a circle`,
      };
    let endpoint = this.#ownDestinations.get(key);
    if (!endpoint) {
      endpoint = { address, key, weight: 1, priority: 0, metadata: {} };
      // As many as a scanner may touch; the oldest are forgotten, what runs on them goes on.
      if (this.#ownDestinations.size >= 4096) {
        const oldest = this.#ownDestinations.keys().next().value!;
        this.#ownDestinations.delete(oldest);
        for (const notify of [...this.#removed]) notify(new Set([oldest]));
      }
      this.#ownDestinations.set(key, endpoint);
    }
    return { kind: "endpoint", endpoint };
  }

  #makeBalancer(): Balancer {
    const health = this.#health;
    const all = [...this.#told.values()].map(({ endpoint }) => endpoint);
    // As long as nobody has answered well, who was not asked yet is better than nobody.
    const trusting = !all.some((endpoint) => health?.stateOf(endpoint) === "passing");
    const well = (endpoint: Endpoint) => {
      const state = health?.stateOf(endpoint) ?? "passing";
      return state === "passing" || (trusting && state === "unknown");
    };
    return buildBalancer(this.#levels, {
      balancing: this.config.balancing,
      weighLocalities: this.config.weighLocalities,
      panicThreshold: this.config.panicThreshold,
      overprovisioning: this.#overprovisioning,
      healthy: (endpoint) =>
        (this.#told.get(endpoint.key)?.healthy ?? false) && !this.#ejected.has(endpoint) && well(endpoint),
      active: (endpoint) => this.#running.get(endpoint)?.active ?? 0,
      warmth: (endpoint) => this.#warmthOf(endpoint),
      random: this.#deps.random,
    });
  }

  /** Why there is nobody to take a call. */
  #reason(): string {
    const health = this.#health;
    if (!health) return this.#why;
    const unwell = [...this.#told.values()].filter(({ endpoint }) => health.stateOf(endpoint) === "failing");
    if (unwell.length === 0) return this.#why;
    const first = unwell.slice(0, 3).map(({ endpoint }) => `"${endpoint.key}": ${health.reasonOf(endpoint)}`);
    return `${this.#why}: asked, ${first.join("; ")}`;
  }

  #warmthOf(endpoint: Endpoint): number {
    const rules = this.#slowStart;
    if (!rules) return 1;
    const forMs = this.#deps.clock.monotonic() - this.#runningOf(endpoint).sinceMs;
    if (forMs >= rules.windowMs) return 1;
    return Math.max(rules.leastPercent / 100, (forMs / rules.windowMs) ** (1 / rules.aggression), 0.001);
  }

  #healthChanged(endpoint: Endpoint): void {
    this.#balancer = undefined;
    if (this.#health?.stateOf(endpoint) !== "passing") return;
    const running = this.#runningOf(endpoint);
    running.sinceMs = this.#deps.clock.monotonic();
    if (this.config.outlier?.readmitWell && this.#ejected.has(endpoint)) this.#readmit(endpoint.key, running);
  }

  #open(endpoint: Endpoint, how: ConnectOptions): Promise<UpstreamSocket> {
    return connectTo({
      endpoint,
      config: this.config,
      transport: this.#transportFor(endpoint),
      contexts: this.#deps.contexts,
      clock: this.#deps.clock,
      how,
    });
  }

  #transportFor(endpoint: Endpoint): UpstreamTransport {
    const given = endpoint.metadata["envoy.transport_socket_match"] as Readonly<Record<string, unknown>> | undefined;
    for (const { match, transport } of this.config.transportMatches)
      if (Object.entries(match).every(([key, value]) => given?.[key] === value)) return transport;
    return this.config.transport;
  }

  #runningOf(endpoint: Endpoint): Running {
    let running = this.#running.get(endpoint);
    if (!running) {
      const counts = { success: 0, error: 0, connectFailure: 0 };
      running = { active: 0, outlier: innocent, counts, sinceMs: this.#deps.clock.monotonic() };
      this.#running.set(endpoint, running);
    }
    return running;
  }

  #inherit(old: Endpoint, fresh: Endpoint): void {
    const running = this.#running.get(old);
    if (running) this.#running.set(fresh, running);
    if (this.#ejected.delete(old)) this.#ejected.add(fresh);
  }

  #record(endpoint: Endpoint, running: Running, outcome: Outcome): void {
    if (outcome === "success") running.counts.success++;
    else if (outcome === "connect-failure") running.counts.connectFailure++;
    else if (outcome !== "cancelled") running.counts.error++;
    const rules = this.config.outlier;
    if (!rules || this.config.discovery.kind === "original-destination") return;
    running.outlier = nextOutlierState(running.outlier, outcome, rules);
    // An endpoint that was replaced meanwhile is no longer anyone's choice.
    const now = this.#told.get(endpoint.key)?.endpoint;
    if (!now || this.#running.get(now) !== running || this.#ejected.has(now)) return;
    if (!isOutlier(running.outlier, rules)) return;
    if (!mayEject({ ejected: this.#ejected.size, total: this.#told.size }, rules)) return;
    const { clock, log } = this.#deps;
    running.outlier = eject(running.outlier, rules, clock.monotonic());
    this.#ejected.add(now);
    this.#balancer = undefined;
    const forMs = running.outlier.ejectedUntilMs! - clock.monotonic();
    log.warn({ cluster: this.name, endpoint: now.key, forMs }, "endpoint left out after errors in a row");
    clock.after(forMs, () => this.#readmit(now.key, running), { background: true });
  }

  #readmit(key: string, running: Running): void {
    running.outlier = readmit(running.outlier);
    const endpoint = this.#told.get(key)?.endpoint;
    if (!endpoint || !this.#ejected.delete(endpoint)) return;
    this.#balancer = undefined;
    this.#deps.log.info({ cluster: this.name, endpoint: key }, "endpoint let in again");
  }
}

function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return (
    a.weight === b.weight && a.priority === b.priority && JSON.stringify(a.metadata) === JSON.stringify(b.metadata)
  );
}
