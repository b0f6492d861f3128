import type { GatewayServer } from "../model/index.ts";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import type { Origin } from "../values/index.ts";
import { bodyLimit } from "./direct-bodies.ts";
import { versioned } from "./encode.ts";
import { boundTo, contextOf, hostsOf, type PortWork, sharedHost } from "./gateway-work.ts";
import type { RouteFields } from "./route-match.ts";
import { httpRoutes } from "./virtual-routes.ts";

/** What stands for one host: how long the host of its VirtualService is, since the most specific one has its way. */
interface HostRoutes {
  readonly specificity: number;
  readonly routes: readonly RouteFields[];
}

/**
 * The routes of HTTP servers: for each host those of the VirtualServices that name it most exactly, one after the other,
 * what takes everything last. A host of a server that redirects is not reached by plain HTTP at all, but for hosts below
 * it that another server names.
 */
export function gatewayRoutes(
  work: PortWork,
  { name, servers }: { readonly name: string; readonly servers: readonly GatewayServer[] },
): Versioned {
  const byHost = new Map<string, HostRoutes>();
  const origins = new Set<Origin>(servers.map((one) => one.origin));
  for (const one of servers) {
    if (one.server.tls?.httpsRedirect) {
      for (const { host } of one.server.hosts) if (!byHost.has(host)) byHost.set(host, redirecting);
      continue;
    }
    for (const owner of boundTo(work, one)) {
      const routes = httpRoutes(owner, {
        context: contextOf(work, owner, one.server.tls !== undefined),
        gateway: one.key,
      });
      for (const route of routes) noteClusters(work, route);
      for (const origin of owner.origins) origins.add(origin);
      for (const [host, specificity] of meeting(hostsOf(one, owner.namespace), owner.hosts)) {
        const known = byHost.get(host);
        if (!known || specificity > known.specificity) byHost.set(host, { specificity, routes });
        else if (specificity === known.specificity)
          byHost.set(host, { specificity, routes: [...known.routes, ...routes] });
      }
    }
  }
  const virtualHosts = [...byHost]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([host, { routes }]) => ({
      name: `${host}:${work.port}`,
      domains: [host],
      includeRequestAttemptCount: true,
      routes: [...routes].sort((a, b) => Number(takesAll(a)) - Number(takesAll(b))),
    }));
  return versioned(RouteConfigurationSchema, {
    name,
    origins: [...origins],
    message: {
      name,
      validateClusters: false,
      // Who comes by a load balancer names whatever port that has.
      ignorePortInHostMatching: true,
      ...bodyLimit(virtualHosts.flatMap((one) => one.routes)),
      virtualHosts,
    },
  });
}

/** The narrower of each pair of hosts that meet, with how much the VirtualService's own says: a star less than any name. */
function meeting(ofServer: readonly string[], own: readonly string[]): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const host of ofServer)
    for (const one of own) {
      const shared = sharedHost(host, one);
      if (shared === undefined) continue;
      const specificity = one.startsWith("*") ? one.length : 1_000 + one.length;
      found.set(shared, Math.max(found.get(shared) ?? 0, specificity));
    }
  return found;
}

const everything = { pathSpecifier: { case: "prefix" as const, value: "/" } };
const redirectToHttps: RouteFields = {
  name: "https-redirect",
  match: everything,
  action: { case: "redirect", value: { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } } },
};

/** Nothing that a VirtualService says goes before it. */
const redirecting: HostRoutes = { specificity: Number.POSITIVE_INFINITY, routes: [redirectToHttps] };

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
