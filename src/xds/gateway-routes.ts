import type { GatewayServer } from "../model/index.ts";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import type { Origin } from "../values/index.ts";
import { bodyLimit } from "./direct-bodies.ts";
import { versioned } from "./encode.ts";
import { boundTo, contextOf, type PortWork, sharedHost } from "./gateway-work.ts";
import type { RouteFields } from "./route-match.ts";
import { httpRoutes } from "./virtual-routes.ts";

/**
 * The routes of HTTP servers: VirtualServices of one host one after the other, what takes everything last. What stands for
 * a host of a server that redirects is not reached by plain HTTP at all, but for hosts that another server names exactly.
 */
export function gatewayRoutes(
  work: PortWork,
  { name, servers }: { readonly name: string; readonly servers: readonly GatewayServer[] },
): Versioned {
  const byHost = new Map<string, RouteFields[]>();
  const origins = new Set<Origin>(servers.map((one) => one.origin));
  const redirecting = new Set<string>();
  for (const one of servers) {
    if (one.server.tls?.httpsRedirect) {
      for (const { host } of one.server.hosts) {
        if (byHost.has(host)) continue;
        byHost.set(host, [redirectToHttps]);
        redirecting.add(host);
      }
      continue;
    }
    for (const owner of boundTo(work, one)) {
      const routes = httpRoutes(owner, {
        context: contextOf(work, owner, one.server.tls !== undefined && !one.server.tls.httpsRedirect),
        gateway: one.key,
      });
      for (const route of routes) noteClusters(work, route);
      for (const origin of owner.origins) origins.add(origin);
      const hosts = new Set(
        one.server.hosts.flatMap(({ host }) => owner.hosts.flatMap((own) => sharedHost(host, own) ?? [])),
      );
      for (const host of hosts) if (!redirecting.has(host)) byHost.set(host, [...(byHost.get(host) ?? []), ...routes]);
    }
  }
  const virtualHosts = [...byHost]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([host, routes]) => ({
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
