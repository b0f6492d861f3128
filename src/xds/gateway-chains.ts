import type { GatewayServer } from "../model/index.ts";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { isHttp } from "../values/index.ts";
import { gatewayRoutes } from "./gateway-routes.ts";
import { boundTo, contextOf, type PortWork } from "./gateway-work.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { put } from "./parts.ts";
import { type TcpDestination, tcpTargets } from "./tcp-routes.ts";
import { gatewayServerTls } from "./tls.ts";
import type { Fields } from "./typed.ts";

type Chain = Fields<typeof FilterChainSchema>;
type TlsMode = NonNullable<GatewayServer["server"]["tls"]>["mode"];

/** What a server does with TLS. */
export function terminates(mode: TlsMode | undefined): "no" | "passes" | "opens" {
  if (mode === undefined) return "no";
  return mode === "PASSTHROUGH" || mode === "AUTO_PASSTHROUGH" ? "passes" : "opens";
}

/** The chain of a server that is neither plain HTTP nor AUTO_PASSTHROUGH. Undefined when all its names are taken. */
export function serverChain(work: PortWork, one: GatewayServer, taken: Set<string>): Chain | undefined {
  const { server, gateway } = one;
  const { listener, port } = work;
  const mode = server.tls?.mode;
  if (mode === "AUTO_PASSTHROUGH" || (isHttp(server.port.protocol) && terminates(mode) === "no")) return undefined;
  const hosts = server.hosts.map(({ host }) => host as string);
  const serverNames = hosts.includes("*") ? [] : hosts.filter((host) => !taken.has(host));
  if (!hosts.includes("*") && serverNames.length === 0) return undefined;
  for (const name of serverNames) taken.add(name);
  const match = serverNames.length > 0 && terminates(mode) !== "no" ? { filterChainMatch: { serverNames } } : {};
  if (terminates(mode) === "opens" && server.tls) {
    const transportSocket = gatewayServerTls(server.tls);
    if (!transportSocket) return undefined;
    const name = `https.${port}.${server.port.name}.${gateway.name}.${gateway.namespace}`;
    const https = isHttp(server.port.protocol) || server.port.protocol === "https";
    if (https) {
      put(work.parts.route, gatewayRoutes(work, { name, servers: [one] }));
      return {
        name,
        ...match,
        transportSocket,
        filters: [httpConnection({ listener, side: "edge", routes: { kind: "named", name } })],
      };
    }
    const to = tcpTargetOf(work, one);
    if (to === undefined) return undefined;
    return { name, ...match, transportSocket, filters: [tcpProxy({ listener, statPrefix: name, to })] };
  }
  const name = `${terminates(mode) === "passes" ? "tls" : "tcp"}.${port}.${server.port.name}.${gateway.name}.${gateway.namespace}`;
  const to = tcpTargetOf(work, one);
  if (to === undefined) return undefined;
  return { name, ...match, filters: [tcpProxy({ listener, statPrefix: name, to })] };
}

function tcpTargetOf(work: PortWork, one: GatewayServer): TcpDestination | undefined {
  for (const owner of boundTo(work, one)) {
    const rules = one.server.tls ? [...owner.spec.tls, ...owner.spec.tcp] : owner.spec.tcp;
    const rule = rules.find(
      (each) =>
        each.match.length === 0 || each.match.some((match) => match.port === undefined || match.port === work.port),
    );
    if (!rule) continue;
    const to = tcpTargets(rule.route, contextOf(work, owner));
    for (const name of typeof to === "string" ? [to] : to.map((each) => each.cluster)) work.clusters.add(name);
    work.origins.add(owner.origin);
    return to;
  }
  return undefined;
}
