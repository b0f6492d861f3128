import type { RouteHost, VirtualService } from "../resources/index.ts";
import { covers, type Hostname, type Labels, type Origin, parseIp, selects } from "../values/index.ts";
import { byAge } from "./age.ts";
import type { MeshSettings } from "./mesh.ts";
import { resolveHost } from "./resolve-host.ts";
import type { Visibility } from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** A VirtualService with its short names spelled out. The same object as long as the resource is. */
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
}

const made = new WeakMap<VirtualService, VirtualRoutes>();

export function buildVirtualServices(
  services: Iterable<VirtualService>,
  settings: MeshSettings,
): readonly VirtualRoutes[] {
  const routes: VirtualRoutes[] = [];
  for (const service of services) {
    let one = made.get(service);
    if (!one) {
      const { spec, metadata, origin } = service;
      one = Object.freeze({
        name: metadata.name,
        namespace: metadata.namespace,
        hosts: Object.freeze(
          spec.hosts.map(
            (host): RouteHost =>
              host === "*" || parseIp(host) ? host : resolveHost(host as Hostname, metadata.namespace, settings),
          ),
        ),
        gateways: Object.freeze(spec.gateways.map((gateway) => gatewayKey(gateway, metadata.namespace))),
        spec,
        visibility: visibilityOf(spec.exportTo, metadata.namespace),
        created: metadata.creationTimestamp ?? 0,
        origin,
      });
      made.set(service, one);
    }
    routes.push(one);
  }
  return Object.freeze(routes.sort(byAge));
}

/** `mesh` stays; a name becomes `namespace/name`. */
export function gatewayKey(gateway: string, namespace: string): string {
  if (gateway === "mesh" || gateway.includes("/")) return gateway;
  return `${namespace}/${gateway}`;
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
