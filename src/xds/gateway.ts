import { type GatewayServer, type Mesh, ruleFor, serversOf, type VirtualRoutes, visibleTo } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import { covers, type Hostname, isHttp, type Origin, parseClusterName } from "../values/index.ts";
import { accessLog } from "./access-log.ts";
import { type Client, visibleServices } from "./client.ts";
import { clustersOf } from "./clusters.ts";
import { versioned } from "./encode.ts";
import { blackHole, fixedNames } from "./fixed.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { gatewayPort } from "./inbound.ts";
import { listenerFilters } from "./listeners.ts";
import type { ProxyNode } from "./node.ts";
import { noParts, type Parts, put } from "./parts.ts";
import { exposureChain, exposuresOf, originsOf } from "./passthrough-gateway.ts";
import type { RouteContext } from "./route-action.ts";
import type { RouteFields } from "./route-match.ts";
import { type TcpDestination, tcpTargets } from "./tcp-routes.ts";
import { gatewayServerTls } from "./tls.ts";
import { type Fields, socketAddress } from "./typed.ts";
import { httpRoutes } from "./virtual-routes.ts";

type Chain = Fields<typeof FilterChainSchema>;

/** What is made for one port of a gateway. */
interface PortWork {
  readonly mesh: Mesh;
  readonly client: Client;
  readonly parts: Parts;
  readonly listener: string;
  readonly port: number;
  /** Clusters that routes lead to. */
  readonly clusters: Set<string>;
  readonly origins: Set<Origin>;
}

/** What a gateway runs: what its Gateways open, with clusters for that and for nothing else. */
export function gatewayParts(mesh: Mesh, node: ProxyNode, client: Client): Parts {
  const parts = noParts();
  put(parts.cluster, blackHole);
  const byPort = new Map<number, GatewayServer[]>();
  for (const one of serversOf(mesh.gateways, client.labels)) {
    const number = one.server.port.number;
    byPort.set(number, [...(byPort.get(number) ?? []), one]);
  }
  for (const [number, servers] of byPort) {
    const bind = bindOf(mesh, { node, client, number });
    if (bind) makePort({ mesh, client, parts, number, servers, bind });
  }
  return parts;
}

/** A gateway that shares its machine's address says by APP_PORTS which of the machine's ports stands for which of its own. */
function bindOf(
  mesh: Mesh,
  { node, client, number }: { readonly node: ProxyNode; readonly client: Client; readonly number: number },
): { readonly address: string; readonly port: number } | undefined {
  const port = gatewayPort(mesh, { node, labels: client.labels, number });
  if (node.interception.mode === "redirect") return { address: "0.0.0.0", port };
  const mapped = Object.entries(node.interception.appPorts).find(([, app]) => app === port);
  return mapped ? { address: "127.0.0.1", port: Number(mapped[0]) } : undefined;
}

function makePort(options: {
  readonly mesh: Mesh;
  readonly client: Client;
  readonly parts: Parts;
  readonly number: number;
  readonly servers: readonly GatewayServer[];
  readonly bind: { readonly address: string; readonly port: number };
}): void {
  const { mesh, client, parts, number, servers, bind } = options;
  const listener = `0.0.0.0_${number}`;
  const work: PortWork = { mesh, client, parts, listener, port: number, clusters: new Set(), origins: new Set() };
  const chains: Chain[] = [];
  const exposures = exposuresOf(mesh, servers, client);
  for (const exposure of exposures) {
    put(parts.cluster, exposure.made.cluster);
    put(parts.endpoints, exposure.made.endpoints);
    chains.push(exposureChain(listener, exposure));
  }
  const plain = servers.filter(({ server }) => isHttp(server.port.protocol) && terminates(server.tls?.mode) === "no");
  let last: Chain | undefined;
  if (plain.length > 0) {
    const name = `http.${number}`;
    put(parts.route, gatewayRoutes(work, { name, servers: plain }));
    last = { name, filters: [httpConnection({ listener, side: "edge", routes: { kind: "named", name } })] };
  }
  const taken = new Set<string>(exposures.flatMap((one) => one.serverNames));
  for (const one of servers) {
    const made = serverChain(work, one, taken);
    if (made === undefined) continue;
    if (made.filterChainMatch === undefined) last ??= made;
    else chains.push(made);
  }
  // A port with nothing behind it still takes connections, to say in a line why it closes them.
  last ??=
    chains.length === 0
      ? {
          name: "nothing-exposed",
          filters: [tcpProxy({ listener, statPrefix: fixedNames.blackHole, to: fixedNames.blackHole })],
        }
      : undefined;
  addClusters(work);
  put(
    parts.listener,
    versioned(ListenerSchema, {
      name: listener,
      origins: [...new Set([...originsOf(servers, exposures), ...work.origins])],
      message: {
        name: listener,
        address: socketAddress(bind.address, bind.port),
        trafficDirection: TrafficDirection.OUTBOUND,
        accessLog: [accessLog(listener, "connections")],
        ...(chains.length > 0 ? { listenerFilters: [listenerFilters.tls] } : {}),
        filterChains: chains,
        ...(last ? { defaultFilterChain: last } : {}),
      },
    }),
  );
}

type TlsMode = NonNullable<GatewayServer["server"]["tls"]>["mode"];

function terminates(mode: TlsMode | undefined): "no" | "passes" | "opens" {
  if (mode === undefined) return "no";
  return mode === "PASSTHROUGH" || mode === "AUTO_PASSTHROUGH" ? "passes" : "opens";
}

/** The chain of a server that is neither plain HTTP nor AUTO_PASSTHROUGH. Undefined when all its names are taken. */
function serverChain(work: PortWork, one: GatewayServer, taken: Set<string>): Chain | undefined {
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

/** VirtualServices bound to a server's Gateway that may use its hosts, oldest first. */
function boundTo(work: PortWork, { key, server, gateway }: GatewayServer): readonly VirtualRoutes[] {
  return work.mesh.virtualServices.filter(
    (one) =>
      one.gateways.includes(key) &&
      (one.namespace === gateway.namespace || visibleTo(one.visibility, gateway.namespace)) &&
      server.hosts.some(
        ({ namespace, host }) =>
          (namespace === "*" || one.namespace === (namespace === "." ? gateway.namespace : namespace)) &&
          one.hosts.some((own) => sharedHost(host, own) !== undefined),
      ),
  );
}

/** The narrower of two hosts when one covers the other. */
function sharedHost(a: string, b: string): string | undefined {
  if (a === "*" || (b !== "*" && covers(a as Hostname, b as Hostname))) return b;
  if (b === "*" || covers(b as Hostname, a as Hostname)) return a;
  return undefined;
}

const contextOf = (work: PortWork, owner: VirtualRoutes): RouteContext => ({
  mesh: work.mesh,
  owner,
  services: visibleServices(work.mesh, work.client.namespace),
  client: work.client,
  port: work.port,
});

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

/** The routes of HTTP servers: VirtualServices of one host one after the other, what takes everything last. */
function gatewayRoutes(
  work: PortWork,
  { name, servers }: { readonly name: string; readonly servers: readonly GatewayServer[] },
): Versioned {
  const byHost = new Map<string, RouteFields[]>();
  const origins = new Set<Origin>(servers.map((one) => one.origin));
  for (const one of servers) {
    for (const owner of boundTo(work, one)) {
      const routes = httpRoutes(owner, { context: contextOf(work, owner), gateway: one.key });
      for (const route of routes) noteClusters(work, route);
      origins.add(owner.origin);
      const hosts = new Set(
        one.server.hosts.flatMap(({ host }) => owner.hosts.flatMap((own) => sharedHost(host, own) ?? [])),
      );
      for (const host of hosts) byHost.set(host, [...(byHost.get(host) ?? []), ...routes]);
    }
    if (one.server.tls?.httpsRedirect) for (const { host } of one.server.hosts) byHost.set(host, [redirectToHttps]);
  }
  const virtualHosts = [...byHost]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([host, routes]) => ({
      name: `${host}:${work.port}`,
      domains: host === "*" ? ["*"] : [host, `${host}:*`],
      includeRequestAttemptCount: true,
      routes: routes.sort((a, b) => Number(takesAll(a)) - Number(takesAll(b))),
    }));
  return versioned(RouteConfigurationSchema, {
    name,
    origins: [...origins],
    message: {
      name,
      validateClusters: false,
      virtualHosts:
        virtualHosts.length > 0
          ? virtualHosts
          : [{ name: `blackhole:${work.port}`, domains: ["*"], routes: [notFound] }],
    },
  });
}

const everything = { pathSpecifier: { case: "prefix" as const, value: "/" } };
const notFound: RouteFields = {
  name: "not-found",
  match: everything,
  action: { case: "directResponse", value: { status: 404 } },
};
const redirectToHttps: RouteFields = {
  name: "https-redirect",
  match: everything,
  action: { case: "redirect", value: { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } } },
};

function takesAll({ match }: RouteFields): boolean {
  const { pathSpecifier, headers, queryParameters } = match ?? {};
  return (
    pathSpecifier?.case === "prefix" && pathSpecifier.value === "/" && !headers?.length && !queryParameters?.length
  );
}

function noteClusters(work: PortWork, { action }: RouteFields): void {
  if (action?.case !== "route") return;
  const specifier = action.value.clusterSpecifier;
  if (specifier?.case === "cluster") work.clusters.add(specifier.value);
  if (specifier?.case === "weightedClusters")
    for (const { name } of specifier.value.clusters ?? []) if (name) work.clusters.add(name);
  for (const { cluster } of action.value.requestMirrorPolicies ?? []) if (cluster) work.clusters.add(cluster);
}

/** Only the clusters that routes lead to: a gateway has no way to anything else. */
function addClusters({ mesh, client, parts, clusters }: PortWork): void {
  const services = visibleServices(mesh, client.namespace);
  const from = { namespace: client.namespace, systemNamespace: mesh.settings.systemNamespace };
  for (const name of clusters) {
    const traffic = parseClusterName(name);
    const service = traffic && services.get(traffic.host as Hostname);
    if (!service) continue;
    const rule = ruleFor(mesh.rules, service, from);
    for (const made of clustersOf(service, { rule, client, settings: mesh.settings, form: "own-traffic" })) {
      if (made.cluster.name !== name) continue;
      put(parts.cluster, made.cluster);
      put(parts.endpoints, made.endpoints);
    }
  }
}
