import { type Clock, Failure } from "../../base/index.ts";
import { formatSocketAddress } from "../../values/index.ts";
import type { Carried, Endpoint, Upstream } from "../upstream/upstream.ts";
import { Http1ClientConnection } from "./http1-client.ts";
import { Http2ClientConnection } from "./http2-client.ts";
import type { ClientConnection } from "./message.ts";
import type { Sweeper, Swept } from "./sweeper.ts";

/** HTTP/2 connections kept to one endpoint, so that a gateway that balances connections can spread the requests. */
const http2ConnectionsPerEndpoint = 4;
/** Streams on one HTTP/2 connection before another is opened. */
const streamsBeforeNext = 100;

/** How long a connection that carries one caller alone is kept for its next request, at most, in milliseconds. */
const mostCarriedIdleMs = 60_000;

interface Waiting {
  readonly resolve: (connection: ClientConnection) => void;
  readonly reject: (failure: Failure) => void;
}

interface EndpointPool {
  readonly key: string;
  /** Whom its connections announce; nobody else may use them. */
  readonly carries: Carried | undefined;
  endpoint: Endpoint;
  /** Last in, first out: the connections least likely to be stale are used, the others grow old and go. */
  readonly idle: Http1ClientConnection[];
  readonly http1: Set<Http1ClientConnection>;
  readonly http2: Set<Http2ClientConnection>;
  connectingHttp2: Promise<Http2ClientConnection> | undefined;
  /** Connections being made. */
  opening: number;
  /** Connections being made whose request has gone: the next requests wait for these instead of having more made. */
  unclaimed: number;
}

/** All connections to one cluster. */
class ClusterPool implements Swept {
  readonly #upstream: Upstream;
  readonly #clock: Clock;
  readonly #sweeper: Sweeper;
  readonly #endpoints = new Map<string, EndpointPool>();
  readonly #waiting: Array<
    Waiting & {
      readonly endpoint: Endpoint;
      readonly carries: Carried | undefined;
      readonly promise: Promise<ClientConnection>;
    }
  > = [];
  /** What `acquire` is waiting for, by the promise that it gave. */
  readonly #making = new WeakMap<Promise<ClientConnection>, EndpointPool>();
  readonly #claims = new WeakMap<Promise<ClientConnection>, { readonly pool: EndpointPool | undefined }>();
  #connections = 0;
  /** Requests running now, for the circuit breaker. */
  active = 0;
  /** Retries running now. */
  retries = 0;

  constructor(upstream: Upstream, clock: Clock, sweeper: Sweeper) {
    this.#upstream = upstream;
    this.#clock = clock;
    this.#sweeper = sweeper;
    sweeper.add(this);
    const stop = upstream.onEndpointsRemoved((keys) => this.#removed(keys));
    const onGone = () => {
      stop();
      sweeper.delete(this);
      this.closeIdle();
    };
    if (upstream.gone.aborted) onGone();
    else upstream.gone.addEventListener("abort", onGone, { once: true });
  }

  /** A connection for one request, of `carries` alone where that is given: at once when one is free. Rejects with a `Failure`. */
  acquire(
    endpoint: Endpoint,
    protocol: "http1" | "http2",
    carries?: Carried,
  ): ClientConnection | Promise<ClientConnection> {
    const pool = this.#pool(endpoint, carries);
    if (protocol === "http2") return this.#acquireHttp2(pool);
    for (let found = pool.idle.pop(); found; found = pool.idle.pop())
      if (found.usable && !this.#old(found)) return found;
      else if (found.usable) found.close();
    const { limits } = this.#upstream;
    if (pool.unclaimed > 0) {
      pool.unclaimed--;
      return this.#wait(pool, pool);
    }
    // An idle connection to another endpoint may stand in the way of this one.
    if (this.#connections < limits.maxConnections || this.#evictIdle()) {
      const making = this.#connectHttp1(pool);
      this.#making.set(making, pool);
      return making;
    }
    if (this.#waiting.length >= limits.maxPendingRequests) {
      throw new Failure(
        "upstream/overflow",
        `${this.#connections} connections are busy and ${this.#waiting.length} requests wait already`,
      );
    }
    return this.#wait(pool, undefined);
  }

  /**
   * The request that `acquiring` was for has gone. What is being made for it serves the next one: whoever asks and takes
   * back at once does not have a connection made each time.
   */
  abandon(acquiring: Promise<ClientConnection>): void {
    const pool = this.#making.get(acquiring);
    if (pool) {
      this.#making.delete(acquiring);
      pool.unclaimed++;
      return;
    }
    const claim = this.#claims.get(acquiring);
    if (!claim) return;
    const at = this.#waiting.findIndex((one) => one.promise === acquiring);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    if (claim.pool) claim.pool.unclaimed++;
  }

  /** Waits for any connection to the endpoint to be free; `pool` when one that nobody claims is being made. */
  #wait({ endpoint, carries }: EndpointPool, pool: EndpointPool | undefined): Promise<ClientConnection> {
    let settle!: Waiting;
    const promise = new Promise<ClientConnection>((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#claims.set(promise, { pool });
    this.#waiting.push({ ...settle, endpoint, carries, promise });
    return promise;
  }

  closeIdle(): void {
    for (const pool of this.#endpoints.values()) {
      for (const connection of pool.idle.splice(0)) connection.close();
      for (const connection of pool.http2) connection.drain();
    }
  }

  closeAll(): void {
    this.#sweeper.delete(this);
    for (const pool of this.#endpoints.values()) {
      for (const connection of pool.http1) connection.close();
      for (const connection of pool.http2) connection.close();
    }
    for (const { reject } of this.#waiting.splice(0)) reject(new Failure("upstream/closed", "the proxy is stopping"));
  }

  onSweep(now: number): void {
    for (const [key, pool] of this.#endpoints) {
      const { idleTimeoutMs: allowed } = this.#upstream;
      // What only one caller may use grows old with that caller.
      const idleTimeoutMs = pool.carries ? Math.min(allowed || mostCarriedIdleMs, mostCarriedIdleMs) : allowed;
      if (idleTimeoutMs > 0) {
        // The oldest lie at the bottom of the stack.
        while (pool.idle.length > 0 && now - pool.idle[0]!.idleSinceMs >= idleTimeoutMs) pool.idle.shift()!.close();
        for (const connection of pool.http2) {
          if (connection.idleSinceMs > 0 && now - connection.idleSinceMs >= idleTimeoutMs) connection.drain();
        }
      }
      for (const connection of pool.http2) if (this.#old(connection)) connection.drain();
      if (pool.http1.size === 0 && pool.http2.size === 0 && pool.opening === 0) this.#endpoints.delete(key);
    }
  }

  #pool(endpoint: Endpoint, carries: Carried | undefined): EndpointPool {
    const key = carries
      ? `${endpoint.key} ${formatSocketAddress(carries.source)} ${formatSocketAddress(carries.destination)}`
      : endpoint.key;
    let pool = this.#endpoints.get(key);
    if (!pool) {
      pool = {
        key,
        carries,
        endpoint,
        idle: [],
        http1: new Set(),
        http2: new Set(),
        connectingHttp2: undefined,
        opening: 0,
        unclaimed: 0,
      };
      this.#endpoints.set(key, pool);
    }
    pool.endpoint = endpoint;
    return pool;
  }

  async #connectHttp1(pool: EndpointPool): Promise<ClientConnection> {
    this.#connections++;
    pool.opening++;
    try {
      const socket = await this.#connect(pool);
      const connection = new Http1ClientConnection(socket, {
        onIdle: (free) => this.#onIdle(pool, free),
        onClosed: (closed) => {
          if (!pool.http1.delete(closed)) return;
          const at = pool.idle.indexOf(closed);
          if (at >= 0) pool.idle.splice(at, 1);
          this.#connections--;
          this.#serveWaiting();
        },
      });
      connection.bornMs = this.#clock.monotonic();
      pool.http1.add(connection);
      return connection;
    } catch (caught) {
      this.#connections--;
      this.#serveWaiting();
      throw caught;
    } finally {
      pool.opening--;
      // Whoever it was made for has it now, or has gone; it can be unclaimed no longer.
      pool.unclaimed = Math.min(pool.unclaimed, pool.opening);
    }
  }

  #onIdle(pool: EndpointPool, connection: Http1ClientConnection): void {
    const most = this.#upstream.maxRequestsPerConnection;
    // An endpoint that left took its pool with it: what still ran there finds another or none in its place.
    const left = this.#endpoints.get(pool.key) !== pool;
    if (
      left ||
      this.#upstream.gone.aborted ||
      (most !== undefined && connection.requests >= most) ||
      this.#old(connection)
    ) {
      connection.close();
      return;
    }
    const waiting = this.#waiting.findIndex(
      ({ endpoint, carries }) => endpoint.key === pool.endpoint.key && this.#pool(endpoint, carries) === pool,
    );
    if (waiting >= 0) {
      const [first] = this.#waiting.splice(waiting, 1);
      first!.resolve(connection);
      return;
    }
    connection.idleSinceMs = this.#clock.monotonic();
    pool.idle.push(connection);
    if (this.#waiting.length > 0) this.#serveWaiting();
  }

  #serveWaiting(): void {
    while (this.#waiting.length > 0) {
      if (this.#connections >= this.#upstream.limits.maxConnections && !this.#evictIdle()) return;
      const first = this.#waiting.shift()!;
      this.#connectHttp1(this.#pool(first.endpoint, first.carries)).then(first.resolve, (caught) =>
        first.reject(Failure.from(caught)),
      );
    }
  }

  #evictIdle(): boolean {
    for (const pool of this.#endpoints.values()) {
      const oldest = pool.idle.shift();
      if (!oldest) continue;
      pool.http1.delete(oldest);
      this.#connections--;
      oldest.close();
      return true;
    }
    return false;
  }

  #acquireHttp2(pool: EndpointPool): ClientConnection | Promise<ClientConnection> {
    let best: Http2ClientConnection | undefined;
    let count = 0;
    for (const connection of pool.http2) {
      if (connection.usable && this.#old(connection)) connection.drain();
      if (!connection.usable) continue;
      count++;
      if (!best || connection.active < best.active) best = connection;
    }
    const most = this.#upstream.maxRequestsPerConnection;
    if (best) {
      const wantsMore =
        count < http2ConnectionsPerEndpoint &&
        best.active > 0 &&
        this.#connections < this.#upstream.limits.maxConnections;
      if (wantsMore || best.active >= Math.min(best.maxStreams, streamsBeforeNext)) {
        if (this.#connections < this.#upstream.limits.maxConnections) this.#connectHttp2(pool).catch(() => {});
      }
      if (best.active < best.maxStreams) {
        if (most !== undefined && best.requests + 1 >= most) best.drainAfterNext();
        return best;
      }
    }
    return this.#connectHttp2(pool);
  }

  #connectHttp2(pool: EndpointPool): Promise<Http2ClientConnection> {
    if (pool.connectingHttp2 !== undefined) return pool.connectingHttp2;
    this.#connections++;
    pool.opening++;
    const connecting = (async () => {
      try {
        const socket = await this.#connect(pool);
        const connection = await Http2ClientConnection.open(socket, this.#clock, (closed) => {
          if (pool.http2.delete(closed)) this.#connections--;
        });
        connection.bornMs = this.#clock.monotonic();
        pool.http2.add(connection);
        return connection;
      } catch (caught) {
        this.#connections--;
        throw caught;
      } finally {
        pool.connectingHttp2 = undefined;
        pool.opening--;
      }
    })();
    pool.connectingHttp2 = connecting;
    return connecting;
  }

  #connect({ endpoint, carries }: EndpointPool): ReturnType<Upstream["connect"]> {
    return this.#upstream.connect(endpoint, carries ? { carries } : undefined);
  }

  /** Whether it takes nothing new because of its age. */
  #old({ bornMs }: { readonly bornMs: number }): boolean {
    const { maxDurationMs } = this.#upstream;
    return maxDurationMs !== undefined && this.#clock.monotonic() - bornMs >= maxDurationMs;
  }

  #removed(keys: ReadonlySet<string>): void {
    for (const [key, pool] of this.#endpoints) {
      if (!keys.has(pool.endpoint.key)) continue;
      this.#endpoints.delete(key);
      for (const connection of pool.idle.splice(0)) connection.close();
      for (const connection of pool.http2) connection.drain();
    }
  }
}

/** The connections of one proxy to all clusters, shared by every listener. */
export class Pools {
  readonly #clock: Clock;
  readonly #sweeper: Sweeper;
  readonly #clusters = new Map<Upstream, ClusterPool>();

  constructor(clock: Clock, sweeper: Sweeper) {
    this.#clock = clock;
    this.#sweeper = sweeper;
  }

  of(upstream: Upstream): ClusterPool {
    let pool = this.#clusters.get(upstream);
    if (!pool) {
      pool = new ClusterPool(upstream, this.#clock, this.#sweeper);
      this.#clusters.set(upstream, pool);
      upstream.gone.addEventListener("abort", () => this.#clusters.delete(upstream), { once: true });
    }
    return pool;
  }

  closeAll(): void {
    for (const pool of this.#clusters.values()) pool.closeAll();
    this.#clusters.clear();
  }
}
export type { ClusterPool };
