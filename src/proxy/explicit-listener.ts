import type { Socket } from "node:net";
import type { Ip, SocketAddress } from "../values/index.ts";
import type { HttpManager } from "./config/http-manager.ts";
import type { ListenerConfig } from "./config/listener.ts";
import type { RouteTable } from "./config/route.ts";
import { type InboundDeps, ownAddress, remoteAddress, serveFrom } from "./inbound.ts";
import type { AccessLog } from "./l4/access-log.ts";
import { openExplicit, type Prepared, type Wish } from "./l4/explicit.ts";
import type { Stop } from "./l4/stop.ts";
import { findVirtual } from "./l4/virtual.ts";
import { type HttpProxy, serveHttp } from "./l7/serve-http.ts";
import type { RunningListener } from "./listener.ts";
import type { Upstreams } from "./upstream/upstream.ts";

/** The addresses of a name as the workload sees it, the mesh's own names included. Throws or is empty when there are none. */
export type ResolveDestination = (host: string) => Promise<readonly Ip[]>;

/** Whether a listener is for applications that know their proxy: HTTP (CONNECT and whole URLs) and SOCKS 5. */
export function isExplicit(config: ListenerConfig): boolean {
  const own = config.metadata["isthmus"] as { readonly explicit?: unknown } | undefined;
  return own?.explicit === true;
}

export interface ExplicitDeps {
  readonly inbound: InboundDeps;
  readonly resolveDestination: ResolveDestination;
  readonly http: HttpProxy;
  readonly routes: (name: string) => RouteTable | undefined;
  readonly accessLogOf: (manager: HttpManager) => AccessLog | undefined;
}

/**
 * An application told us where it wants to go: from there on all is as if it had been captured on its way. What no
 * outbound listener claims takes the explicit listener's own chain.
 */
export async function serveExplicit(
  socket: Socket,
  { listener, signal }: { readonly listener: RunningListener; readonly signal: Stop },
  deps: ExplicitDeps,
): Promise<void> {
  const { clock, log } = deps.inbound;
  const virtual = deps.inbound.virtual;
  const own = ownAddress(socket);
  const remote = remoteAddress(socket);
  if (!own || !remote) {
    socket.destroy();
    return;
  }
  const startedMs = clock.now();
  const began = clock.monotonic();
  const destinationOf = async (host: string, port: number): Promise<SocketAddress | undefined> => {
    const [ip] = await deps.resolveDestination(host);
    return ip && { ip, port };
  };
  const prepare = async ({ host, port }: Wish): Promise<Prepared> => {
    const destination = await destinationOf(host, port);
    if (!destination) return { kind: "no", socksReply: 4, reason: `"${host}" has no address` };
    if (!findVirtual(virtual(), destination) && !leadsOn(listener, destination, deps.http.upstreams))
      return { kind: "no", socksReply: 2, reason: `no service of the mesh listens on "${host}" port ${port}` };
    return { kind: "go", ip: destination.ip };
  };
  const opened = await openExplicit(socket, { clock, signal, prepare });
  if (opened.kind === "closed") {
    log.debug({ reason: opened.reason }, "explicit connection refused");
    // What was said to it is read before the connection goes.
    if (!socket.writableEnded) socket.destroy();
    else socket.resume();
    return;
  }
  if (opened.kind === "tunnel") {
    const destination = { ip: opened.ip, port: opened.port };
    const first = findVirtual(virtual(), destination) ?? listener;
    return serveFrom(socket, {
      first,
      signal,
      deps: deps.inbound,
      startedMs,
      began,
      remote,
      destination,
      redirected: true,
    });
  }
  const manager = anyManager(virtual());
  if (!manager) {
    socket.end("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    socket.resume();
    return;
  }
  await serveHttp(
    {
      id: deps.inbound.nextId(),
      socket,
      remote,
      destination: own,
      redirected: false,
      listener: listener.config.name,
      tls: undefined,
      sni: undefined,
      startedMs,
      draining: signal,
      signal,
    },
    {
      http: deps.http,
      manager,
      routes: deps.routes,
      accessLog: deps.accessLogOf(manager),
      explicit: { routeName: (_authority, port) => routesOfPort(virtual(), port), destinationOf },
    },
  );
}

/** Whether the listener's own chain takes what no other listener claims; where nothing may leave the mesh, it does not. */
function leadsOn(listener: RunningListener, destination: SocketAddress, upstreams: Upstreams): boolean {
  const terminal = listener.config.defaultChain?.terminal;
  if (terminal?.kind !== "tcp") return false;
  return terminal.tcp.clusters.some(({ name }) => upstreams.get(name)?.pick({ destination }).kind === "endpoint");
}

type Virtual = ReadonlyMap<string, RunningListener>;

/** Settings for requests with whole URLs: those of any outbound HTTP chain, which are all alike. */
function anyManager(virtual: Virtual): HttpManager | undefined {
  for (const { config } of virtual.values())
    for (const { terminal } of config.chains) if (terminal.kind === "http") return terminal.manager;
  return undefined;
}

function routesOfPort(virtual: Virtual, port: number): string | undefined {
  const listener = findVirtual(virtual, { ip: "0.0.0.0" as Ip, port });
  for (const { terminal } of listener?.config.chains ?? [])
    if (terminal.kind === "http" && terminal.manager.routes.kind === "rds") return terminal.manager.routes.name;
  return undefined;
}
