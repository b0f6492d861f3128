import type { RouteHost, VirtualService } from "../resources/index.ts";
import { covers, type Hostname, type Labels, type Origin, parseIp, selects } from "../values/index.ts";
import { byAge } from "./age.ts";
import { delegated, delegatesOf } from "./delegates.ts";
import { type Finding, finding } from "./finding.ts";
import { gatewayKey } from "./gateway-key.ts";
import type { MeshSettings } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import type { Visibility } from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** A VirtualService with its short names spelled out, and the rules of its delegates in it. The same object as long as they are. */
export interface VirtualRoutes {
  readonly name: string;
  readonly namespace: string;
  readonly hosts: readonly RouteHost[];
  /** `mesh`, or `namespace/name` of a Gateway. */
  readonly gateways: readonly string[];
  readonly spec: VirtualService["spec"];
  readonly visibility: Visibility;
  readonly created: number;
  readonly origin: Origin;
  /** Its own, and those of its delegates. */
  readonly origins: readonly Origin[];
}

interface Remembered {
  readonly used: ReadonlyArray<VirtualService | undefined>;
  readonly clusterDomain: string;
  readonly routes: VirtualRoutes;
  readonly findings: readonly Finding[];
}

const made = new WeakMap<VirtualService, Remembered>();

/** All VirtualServices that are about hosts, and what is wrong between them and those that are not. */
export interface VirtualServiceBook {
  readonly routes: readonly VirtualRoutes[];
  readonly findings: readonly Finding[];
}

export const noVirtualServices: VirtualServiceBook = { routes: Object.freeze([]), findings: Object.freeze([]) };

export function buildVirtualServices(services: Iterable<VirtualService>, settings: MeshSettings): VirtualServiceBook {
  const delegates = new Map<string, VirtualService>();
  const roots: VirtualService[] = [];
  for (const service of services) {
    const { name, namespace } = service.metadata;
    if (service.spec.hosts.length > 0) roots.push(service);
    else delegates.set(`${namespace}/${name}`, service);
  }
  const unused = new Set(delegates.values());
  const routes: VirtualRoutes[] = [];
  const findings: Finding[] = [];
  for (const root of roots) {
    const used = delegatesOf(root, delegates);
    for (const one of used) if (one) unused.delete(one);
    let known = made.get(root);
    const same =
      known?.clusterDomain === settings.clusterDomain &&
      known.used.length === used.length &&
      known.used.every((one, at) => one === used[at]);
    if (!known || !same) {
      known = remembered(root, delegates, settings);
      made.set(root, known);
    }
    routes.push(known.routes);
    findings.push(...known.findings);
  }
  for (const { origin, metadata } of unused)
    findings.push(
      finding("mesh/delegate-unused", {
        origin,
        message: `no VirtualService hands requests to "${metadata.namespace}/${metadata.name}", and without hosts it has no effect by itself`,
        hint: "write its hosts, or name it as a delegate",
      }),
    );
  return { routes: Object.freeze(routes.sort(byAge)), findings: Object.freeze(findings) };
}

function remembered(
  root: VirtualService,
  delegates: ReadonlyMap<string, VirtualService>,
  settings: MeshSettings,
): Remembered {
  const { spec, metadata, origin } = root;
  const { http, used, findings } = spec.http.some((rule) => rule.delegate)
    ? delegated(root, delegates, settings)
    : { http: spec.http, used: [], findings: [] };
  const routes: VirtualRoutes = Object.freeze({
    name: metadata.name,
    namespace: metadata.namespace,
    hosts: Object.freeze(
      spec.hosts.map(
        (host): RouteHost =>
          host === "*" || parseIp(host) ? host : resolveHost(host as Hostname, metadata.namespace, settings),
      ),
    ),
    gateways: Object.freeze(spec.gateways.map((gateway) => gatewayKey(gateway, metadata.namespace))),
    spec: http === spec.http ? spec : Object.freeze({ ...spec, http }),
    visibility: visibilityOf(spec.exportTo, metadata.namespace),
    created: metadata.creationTimestamp ?? 0,
    origin,
    origins: Object.freeze([...new Set([origin, ...used.flatMap((one) => one?.origin ?? [])])]),
  });
  return { used, clusterDomain: settings.clusterDomain, routes, findings };
}

/** Whether routes written for `pattern` are about `host`. */
export function routesHost(pattern: RouteHost, host: Hostname): boolean {
  return pattern === "*" || pattern === host || covers(pattern as Hostname, host);
}

/** The part of a match that says whose calls and which port are meant. */
export interface SourceMatch {
  readonly port?: number | undefined;
  readonly sourceLabels: Labels;
  readonly sourceNamespace: string;
  readonly gateways: readonly string[];
}

/** Whether a match is about this client at all: decided once, when its configuration is made. */
export function appliesTo(
  match: SourceMatch,
  client: {
    readonly gateway: string;
    readonly port: number;
    readonly labels: Labels;
    readonly namespace: string;
    readonly owner: string;
  },
): boolean {
  if (match.port !== undefined && match.port !== client.port) return false;
  // A match that names gateways is about them, and does not look at who is calling.
  if (match.gateways.length > 0)
    return match.gateways.some((gateway) => gatewayKey(gateway, client.owner) === client.gateway);
  if (match.sourceNamespace !== "" && match.sourceNamespace !== client.namespace) return false;
  return selects(match.sourceLabels, client.labels);
}
