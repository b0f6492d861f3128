import {
  appliesTo,
  cached,
  type Mesh,
  routesHost,
  type Service,
  type ServicePort,
  targetsOf,
  type VirtualRoutes,
  visibleTo,
} from "../model/index.ts";
import { type Hostname, isWildcard, type Origin } from "../values/index.ts";
import type { Client } from "./client.ts";
import type { RouteContext } from "./destination.ts";
import { routeAction } from "./route-action.ts";
import { matchesEverything, type RouteFields, routeMatch } from "./route-match.ts";

/** The routes that people wrote for a host, not yet made: `inputs` tells whether they would be the same as before. */
export interface FoundRoutes {
  readonly inputs: readonly unknown[];
  readonly origins: readonly Origin[];
  /** Undefined when nobody wrote any for this host and client. */
  readonly routes: () => RouteFields[] | undefined;
}

const nothing: FoundRoutes = { inputs: [], origins: [], routes: () => undefined };

interface Index {
  readonly exact: ReadonlyMap<string, VirtualRoutes>;
  /** From the longest suffix to `*`. */
  readonly wildcards: readonly VirtualRoutes[];
}

const indices = new WeakMap<Mesh["virtualServices"], Map<string, Index>>();

/** VirtualServices by host, as sidecars of a namespace see them. Of two for one host the older one counts. */
function indexFor(mesh: Mesh, namespace: string): Index {
  const byNamespace = cached(indices, mesh.virtualServices, () => new Map<string, Index>());
  return cached(byNamespace, namespace, () => {
    const exact = new Map<string, VirtualRoutes>();
    const wild: Array<{ readonly host: string; readonly routes: VirtualRoutes }> = [];
    for (const one of mesh.virtualServices) {
      if (!one.gateways.includes("mesh")) continue;
      if (one.namespace !== namespace && !visibleTo(one.visibility, namespace)) continue;
      for (const host of one.hosts) {
        if (host === "*" || isWildcard(host as Hostname)) wild.push({ host, routes: one });
        else if (!exact.has(host)) exact.set(host, one);
      }
    }
    wild.sort((a, b) => b.host.length - a.host.length);
    return { exact, wildcards: wild.map((one) => one.routes) };
  });
}

/** The VirtualService that sidecars of a client's namespace follow for a host. */
export function virtualServiceFor(mesh: Mesh, service: Service, client: Client): VirtualRoutes | undefined {
  if (mesh.virtualServices.length === 0) return undefined;
  const index = indexFor(mesh, client.namespace);
  const { hostname } = service;
  return (
    index.exact.get(hostname) ??
    service.addresses.map((ip) => index.exact.get(ip)).find((one) => one !== undefined) ??
    index.wildcards.find((one) =>
      one.hosts.some((host) => (host === "*" || isWildcard(host as Hostname)) && routesHost(host, hostname)),
    )
  );
}

export function virtualHostRoutes(
  mesh: Mesh,
  parts: {
    readonly service: Service;
    readonly port: ServicePort;
    readonly services: ReadonlyMap<Hostname, Service>;
    readonly client: Client;
  },
): FoundRoutes {
  const { service, port, services, client } = parts;
  const owner = virtualServiceFor(mesh, service, client);
  if (!owner || owner.spec.http.length === 0) return nothing;
  const context: RouteContext = { mesh, owner, services, client, port: port.number, secure: false };
  return {
    // Where requests go depends on the ports of the destinations, and how they are hashed on rules.
    inputs: [owner, mesh.rules, ...destinationsOf(owner, context), client.labelsKey, client.namespace],
    origins: owner.origins,
    routes: () => {
      const routes = httpRoutes(owner, { context, gateway: "mesh" });
      return routes.length > 0 ? routes : undefined;
    },
  };
}

function destinationsOf(owner: VirtualRoutes, { mesh, services }: RouteContext): unknown[] {
  return targetsOf(owner, mesh).map(({ host }) => services.get(host)?.ports);
}

/** The HTTP rules of one VirtualService as routes, in order, up to the first that takes everything. */
export function httpRoutes(
  owner: VirtualRoutes,
  { context, gateway }: { readonly context: RouteContext; readonly gateway: string },
): RouteFields[] {
  const { client, port } = context;
  const source = { gateway, port, labels: client.labels, namespace: client.namespace, owner: owner.namespace };
  const routes: RouteFields[] = [];
  for (const rule of owner.spec.http) {
    const applying = rule.match.filter((match) => appliesTo(match, source));
    if (rule.match.length > 0 && applying.length === 0) continue;
    const action = routeAction(rule, context);
    for (const match of rule.match.length === 0 ? [undefined] : applying) {
      const suffix = match?.name ? `.${match.name}` : "";
      routes.push({
        name: rule.name ? `${rule.name}${suffix}` : `${owner.name}.${owner.namespace}`,
        match: routeMatch(match),
        ...(match?.statPrefix ? { statPrefix: match.statPrefix } : {}),
        ...action,
      });
      if (!match || matchesEverything(match)) return routes;
    }
  }
  return routes;
}
