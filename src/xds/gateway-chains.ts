import { appliesTo, type GatewayServer, type VirtualRoutes } from "../model/index.ts";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { TcpRule, TlsRule } from "../resources/index.ts";
import type { Cidr } from "../values/index.ts";
import { gatewayRoutes } from "./gateway-routes.ts";
import { boundTo, contextOf, hostsOf, type PortWork, sharedHost } from "./gateway-work.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { gatewayServerTls } from "./outside-tls.ts";
import { put } from "./parts.ts";
import { tcpOptionsFor } from "./tcp-options.ts";
import { type TcpDestination, tcpTargets } from "./tcp-routes.ts";
import type { Fields } from "./typed.ts";

export type Chain = Fields<typeof FilterChainSchema>;

/**
 * The chains of a server on a port that is not plain HTTP; AUTO_PASSTHROUGH has none here. `taken` holds the server names
 * that have a chain already, and gets those of these chains.
 */
export function serverChains(work: PortWork, one: GatewayServer, taken: Set<string>): readonly Chain[] {
  const mode = one.server.tls?.mode;
  switch (mode) {
    case "AUTO_PASSTHROUGH":
      return [];
    case "PASSTHROUGH":
      return passedOn(work, one, taken);
    case undefined:
      return whole(work, one);
    case "SIMPLE":
    case "MUTUAL":
    case "OPTIONAL_MUTUAL":
    case "ISTIO_MUTUAL":
      return opened(work, one, taken);
  }
}

const named = (kind: "https" | "tls" | "tcp", { port }: PortWork, { server, gateway }: GatewayServer) =>
  `${kind}.${port}.${server.port.name}.${gateway.name}.${gateway.namespace}`;

/** TLS that ends here, for HTTP or for bytes. Where a key is not there, connections for these names are closed. */
function opened(work: PortWork, one: GatewayServer, taken: Set<string>): readonly Chain[] {
  const { server } = one;
  const { listener } = work;
  const serverNames = free(
    server.hosts.map(({ host }) => host),
    taken,
  );
  const http = server.port.protocol === "https";
  const transportSocket = server.tls && gatewayServerTls(server.tls, http ? "http" : "bytes");
  if (serverNames.length === 0 || !transportSocket) return [];
  for (const host of serverNames) taken.add(host);
  const name = named("https", work, one);
  const common = { name, ...matching(serverNames), transportSocket };
  if (http) {
    put(work.parts.route, gatewayRoutes(work, { name, servers: [one] }));
    return [
      {
        ...common,
        filters: [httpConnection({ listener, side: "edge", routes: { kind: "named", name }, forward: work.forward })],
      },
    ];
  }
  const to = bytesTo(work, one);
  return to === undefined ? [] : [{ ...common, filters: [tcpFilter(work, name, to)] }];
}

/** TLS that is passed on unopened, each server name to where a VirtualService says. */
function passedOn(work: PortWork, one: GatewayServer, taken: Set<string>): readonly Chain[] {
  const name = named("tls", work, one);
  const chains: Chain[] = [];
  const add = (suffix: string, hosts: readonly string[], subnets: readonly Cidr[], to: () => TcpDestination) => {
    const key = (host: string) => [host, ...subnets.map(({ ip, prefix }) => `${ip}/${prefix}`)].join(" ");
    const serverNames = [...new Set(hosts)].filter((host) => !taken.has(key(host)));
    if (serverNames.length === 0) return;
    for (const host of serverNames) taken.add(key(host));
    chains.push({
      name: `${name}${suffix}`,
      ...matching(serverNames, subnets),
      filters: [tcpFilter(work, name, to())],
    });
  };
  for (const owner of boundTo(work, one)) {
    for (const rule of owner.spec.tls)
      for (const match of rule.match) {
        if (!appliesTo(match, sourceOf(work, one, owner))) continue;
        const hosts = hostsOf(one, owner.namespace).flatMap((host) =>
          match.sniHosts.flatMap((sni) => sharedHost(host, sni) ?? []),
        );
        add(chains.length === 0 ? "" : `.${chains.length}`, hosts, match.destinationSubnets, () =>
          destination(work, owner, rule),
        );
      }
  }
  const to = bytesTo(work, one);
  if (to !== undefined)
    add(
      chains.length === 0 ? "" : ".rest",
      one.server.hosts.map(({ host }) => host),
      [],
      () => to,
    );
  return chains;
}

/** Bytes of whatever kind: a port of its own. */
function whole(work: PortWork, one: GatewayServer): readonly Chain[] {
  const name = named("tcp", work, one);
  const to = bytesTo(work, one);
  return to === undefined ? [] : [{ name, filters: [tcpFilter(work, name, to)] }];
}

/** Where the first TCP rule for this port leads. */
function bytesTo(work: PortWork, one: GatewayServer): TcpDestination | undefined {
  for (const owner of boundTo(work, one)) {
    const source = sourceOf(work, one, owner);
    const rule = owner.spec.tcp.find(
      (each) => each.match.length === 0 || each.match.some((at) => appliesTo(at, source)),
    );
    if (rule) return destination(work, owner, rule);
  }
  return undefined;
}

function destination(work: PortWork, owner: VirtualRoutes, rule: TcpRule | TlsRule): TcpDestination {
  const to = tcpTargets(rule.route, contextOf(work, owner));
  for (const name of typeof to === "string" ? [to] : to.map((each) => each.cluster)) work.clusters.add(name);
  work.origins.add(owner.origin);
  return to;
}

const sourceOf = ({ port, client }: PortWork, one: GatewayServer, owner: VirtualRoutes) => ({
  gateway: one.key,
  port,
  labels: client.labels,
  namespace: client.namespace,
  owner: owner.namespace,
});

const free = (hosts: readonly string[], taken: ReadonlySet<string>) => [
  ...new Set(hosts.filter((host) => !taken.has(host))),
];

/** A star asks for nothing, and takes what no other chain asks for. */
function matching(serverNames: readonly string[], subnets: readonly Cidr[] = []): Pick<Chain, "filterChainMatch"> {
  const any = serverNames.includes("*");
  if (any && subnets.length === 0) return {};
  return {
    filterChainMatch: {
      ...(any ? {} : { serverNames: [...serverNames] }),
      ...(subnets.length > 0
        ? {
            prefixRanges: subnets.map(({ ip, prefix }) => ({ addressPrefix: ip, prefixLen: prefix })),
          }
        : {}),
    },
  };
}

function tcpFilter({ mesh, client, listener }: PortWork, statPrefix: string, to: TcpDestination) {
  return tcpProxy({ listener, statPrefix, to, connection: tcpOptionsFor(mesh, { to, client }) });
}
