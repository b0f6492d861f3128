import type { Clock, Logger, Metrics, Scope } from "../../base/index.ts";
import type { SocketAddress } from "../../values/index.ts";
import type { HttpManager } from "../config/http-manager.ts";
import type { RouteTable } from "../config/route.ts";
import type { AccessLog } from "../l4/access-log.ts";
import type { Connection } from "../l4/connection.ts";
import { readWaiting } from "../l4/reads.ts";
import type { Upstreams } from "../upstream/upstream.ts";
import { tellRefused } from "./account.ts";
import { Exchange } from "./exchange.ts";
import { type Forwarding, forwardingOf } from "./forwarding.ts";
import { HttpMetrics } from "./http-metrics.ts";
import { Http1ServerConnection } from "./http1-server.ts";
import { serveHttp2 } from "./http2-server.ts";
import { Pools } from "./pool.ts";
import { Sweeper } from "./sweeper.ts";

/** What all HTTP connections of one proxy share: connection pools, timers, counters. */
export interface HttpProxy {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly upstreams: Upstreams;
  readonly pools: Pools;
  readonly sweeper: Sweeper;
  readonly metrics: HttpMetrics;
}

/** Makes what HTTP connections share; upstream connections end with the scope. */
export function startHttpProxy(
  deps: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    readonly upstreams: Upstreams;
  },
  scope: Scope,
): HttpProxy {
  const { clock, random, log, upstreams } = deps;
  const sweeper = new Sweeper(clock);
  const pools = new Pools(clock, sweeper);
  scope.defer(() => pools.closeAll());
  return { clock, random, log, upstreams, pools, sweeper, metrics: new HttpMetrics(deps.metrics) };
}

/** What one listener's connections are served with. */
export interface HttpService {
  readonly http: HttpProxy;
  readonly manager: HttpManager;
  /** The present route table of that name; asked anew for every request. */
  readonly routes: (name: string) => RouteTable | undefined;
  readonly accessLog: AccessLog | undefined;
  /**
   * Set on the explicit proxy's listener: the name of the route table for a request to `host:port`. Requests there have
   * a whole URL for a target; others are refused.
   */
  readonly explicit?: {
    readonly routeName: (authority: string, port: number) => string | undefined;
    /** Where a host is, for clusters that go where the caller meant to; asked only when such a cluster was chosen. */
    readonly destinationOf?: (host: string, port: number) => Promise<SocketAddress | undefined>;
  };
}

/** One connection while it is served. */
export interface Served {
  readonly connection: Connection;
  readonly service: HttpService;
  readonly forwarding: Forwarding;
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** Serves the requests of one connection; resolves when it is gone. Never rejects: what goes wrong is answered and logged. */
export async function serveHttp(connection: Connection, service: HttpService): Promise<void> {
  const { manager, http } = service;
  const served: Served = { connection, service, forwarding: forwardingOf(connection, manager) };
  const alpn = connection.tls?.alpn;
  let version: "http1" | "http2" | undefined =
    manager.codec !== "auto" ? manager.codec : alpn === "h2" || alpn === "istio-h2" ? "http2" : undefined;
  // An ALPN of HTTP/1 settles it as well; where there is none, or one that says nothing, the first bytes do.
  if (version === undefined && (alpn === "http/1.1" || alpn === "istio-http/1.1" || alpn === "istio-http/1.0"))
    version = "http1";
  version ??= await detect(connection, manager.headersTimeoutMs, http.clock);
  if (version === undefined) return;
  http.metrics.connection(version);
  if (version === "http2") return serveHttp2(served);
  return serveHttp1(served);
}

async function serveHttp1(served: Served): Promise<void> {
  const { connection, service } = served;
  const { manager, http } = service;
  let requests = 0;
  const server = new Http1ServerConnection({
    socket: connection.socket,
    clock: http.clock,
    sweeper: http.sweeper,
    maxHeadBytes: manager.maxHeadBytes,
    headersTimeoutMs: manager.headersTimeoutMs,
    idleTimeoutMs: manager.idleTimeoutMs,
    streamIdleTimeoutMs: manager.streamIdleTimeoutMs,
    requestTimeoutMs: manager.requestTimeoutMs,
    onRequest: (stream) => {
      new Exchange(served, stream).start();
      if (manager.maxRequestsPerConnection !== undefined && ++requests >= manager.maxRequestsPerConnection)
        server.drain();
    },
    onRefused: (refusal) => tellRefused(served, refusal),
  });
  const onDrain = () => server.drain();
  const onAbort = () => server.destroy();
  if (connection.draining.aborted) onDrain();
  if (connection.signal.aborted) onAbort();
  connection.draining.addEventListener("abort", onDrain);
  connection.signal.addEventListener("abort", onAbort);
  server.start();
  await server.closed;
  connection.draining.removeEventListener("abort", onDrain);
  connection.signal.removeEventListener("abort", onAbort);
}

/** Waits until the first bytes are no HTTP/2 preface, or all of one; they stay unread. Undefined when the connection ended. */
function detect(connection: Connection, timeoutMs: number, clock: Clock): Promise<"http1" | "http2" | undefined> {
  const { socket } = connection;
  return new Promise((resolve) => {
    let seen: Buffer = Buffer.alloc(0);
    const settle = (version: "http1" | "http2" | undefined) => {
      timer.cancel();
      socket.off("readable", onReadable);
      socket.off("end", onEnd);
      socket.off("close", onEnd);
      socket.off("error", onError);
      connection.signal.removeEventListener("abort", onGone);
      connection.draining.removeEventListener("abort", onDrain);
      if (version === undefined) socket.destroy();
      else if (seen.length > 0) socket.unshift(seen);
      resolve(version);
    };
    const onReadable = () => {
      const chunk = readWaiting(socket);
      if (chunk === null) return;
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      const text = seen.toString("latin1", 0, preface.length);
      if (!preface.startsWith(text)) settle("http1");
      else if (text.length === preface.length) settle("http2");
    };
    const onEnd = () => settle(seen.length > 0 ? "http1" : undefined);
    // The close that follows an error tells the rest.
    const onError = () => {};
    const onGone = () => settle(undefined);
    const onDrain = () => {
      if (seen.length === 0) settle(undefined);
    };
    const timer = clock.after(timeoutMs * 6, onGone, { background: true });
    socket.on("readable", onReadable);
    socket.on("end", onEnd);
    socket.on("close", onEnd);
    socket.on("error", onError);
    connection.signal.addEventListener("abort", onGone);
    connection.draining.addEventListener("abort", onDrain);
    if (socket.destroyed || connection.signal.aborted || connection.draining.aborted) onGone();
  });
}
