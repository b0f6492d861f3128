import { appliesTo, type Mesh, type SourceMatch, type VirtualRoutes } from "../model/index.ts";
import type { TcpRule } from "../resources/index.ts";
import {
  type Cidr,
  cidrContains,
  clusterName,
  covers,
  type Hostname,
  type Ip,
  isTls,
  isWildcard,
  outbound,
  parseIp,
} from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { destinationCluster, type RouteContext } from "./destination.ts";
import type { TcpChain } from "./listener-wishes.ts";
import { virtualServiceFor } from "./virtual-routes.ts";

/** A cluster, or several by weight. */
export type TcpDestination = string | ReadonlyArray<{ readonly cluster: string; readonly weight: number }>;

/** Connections to a service that go one way: those to these ranges, for these server names; empty for all. */
export interface TcpRoute {
  readonly ranges: readonly Cidr[];
  readonly serverNames: readonly string[];
  readonly to: TcpDestination;
}

/**
 * Where connections to a service go, in order: where VirtualServices say for this port, and last to the service itself.
 * `address` is the one that the listener stands for, undefined where it stands for many.
 */
export function tcpRoutes(
  mesh: Mesh,
  { chain, address, client }: { readonly chain: TcpChain; readonly address: Ip | undefined; readonly client: Client },
): readonly TcpRoute[] {
  const { service, port } = chain;
  const rest = { ranges: chain.ranges, serverNames: chain.serverNames };
  const own: TcpRoute = { ...rest, to: clusterName(outbound(service.hostname, port.number)) };
  const owner = virtualServiceFor(mesh, service, client);
  if (!owner) return [own];
  const context: RouteContext = {
    mesh,
    owner,
    services: visibleServices(mesh, client.namespace),
    client,
    port: port.number,
    secure: false,
  };
  const applies = (match: SourceMatch) => appliesTo(match, sourceOf(owner, context));
  const rangesOf = (subnets: readonly Cidr[]) => within(subnets, { ranges: chain.ranges, address });
  const routes: TcpRoute[] = [];
  for (const { match, route } of isTls(port.protocol) ? owner.spec.tls : [])
    for (const one of match) {
      if (!applies(one)) continue;
      const ranges = rangesOf(one.destinationSubnets);
      const serverNames = serverNamesOf(one.sniHosts, { host: service.hostname, shared: address === undefined });
      if (ranges && serverNames) routes.push({ ranges, serverNames, to: tcpTargets(route, context) });
    }
  for (const { match, route } of owner.spec.tcp) {
    for (const one of match.length > 0 ? match.filter(applies) : [{ destinationSubnets: [] }]) {
      const ranges = rangesOf(one.destinationSubnets);
      if (!ranges) continue;
      const to = tcpTargets(route, context);
      // With nothing left to ask, what comes after it is never reached.
      if (ranges === rest.ranges) return [...routes, { ...rest, to }];
      routes.push({ ...rest, ranges, to });
    }
  }
  return [...routes, own];
}

const sourceOf = (owner: VirtualRoutes, { client, port }: RouteContext) => ({
  gateway: "mesh",
  port,
  labels: client.labels,
  namespace: client.namespace,
  owner: owner.namespace,
});

/** The part of a listener's destinations that lies in subnets; undefined when there is none. */
function within(
  subnets: readonly Cidr[],
  { ranges, address }: { readonly ranges: readonly Cidr[]; readonly address: Ip | undefined },
): readonly Cidr[] | undefined {
  if (subnets.length === 0) return ranges;
  if (address !== undefined) return subnets.some((subnet) => cidrContains(subnet, address)) ? ranges : undefined;
  if (ranges.length === 0) return subnets;
  const shared = subnets.flatMap((subnet) =>
    ranges.flatMap((range) => {
      const [wide, narrow] = subnet.prefix <= range.prefix ? [subnet, range] : [range, subnet];
      return cidrContains(wide, narrow.ip) ? narrow : [];
    }),
  );
  if (shared.length === 0) return undefined;
  const same = shared.length === ranges.length && shared.every((one, at) => one === ranges[at]);
  return same ? ranges : shared;
}

/** Server names to ask for; none for any. Where many share a listener, only the names of the service itself. */
function serverNamesOf(
  sniHosts: readonly string[],
  { host, shared }: { readonly host: Hostname; readonly shared: boolean },
): readonly string[] | undefined {
  const names = sniHosts
    .filter((name) => parseIp(name) === undefined)
    .flatMap((name) => {
      if (!shared) return name;
      if (name === "*" || name === host || covers(name as Hostname, host)) return host;
      return isWildcard(host) && covers(host, name as Hostname) ? name : [];
    });
  if (names.length === 0) return undefined;
  return names.includes("*") ? [] : [...new Set(names)];
}

export function tcpTargets(routes: TcpRule["route"], context: RouteContext): TcpDestination {
  const used = routes.filter((one) => one.weight > 0);
  if (used.length === 1) return destinationCluster(used[0]!.destination, context, "bytes");
  return used.map((one) => ({ cluster: destinationCluster(one.destination, context, "bytes"), weight: one.weight }));
}
