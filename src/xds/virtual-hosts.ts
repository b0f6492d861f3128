import type { MessageInitShape } from "@bufbuild/protobuf";
import { cached, isGlobal, type Mesh, ruleFor, type Service, type ServicePort } from "../model/index.ts";
import type { RouteSchema, VirtualHostSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { clusterName, type Hostname, ipFamily, outbound } from "../values/index.ts";
import type { Client } from "./client.ts";
import { hashPolicyOf } from "./destination.ts";
import { bodyLimit } from "./direct-bodies.ts";
import { type Piece, routesPiece } from "./encode.ts";
import { defaultRetries } from "./retries.ts";
import { milliseconds } from "./typed.ts";
import { virtualHostRoutes } from "./virtual-routes.ts";

interface HostParts {
  readonly service: Service;
  readonly port: ServicePort;
  readonly services: ReadonlyMap<Hostname, Service>;
  readonly client: Client;
}

interface RememberedHost {
  readonly inputs: readonly unknown[];
  readonly piece: Piece;
}

const hosts = new WeakMap<Service, Map<string, RememberedHost>>();

/** One virtual host, encoded once for all clients that are alike, as long as nothing of it changed. */
export function virtualHost(mesh: Mesh, parts: HostParts): Piece {
  const { service, port, services, client } = parts;
  const found = virtualHostRoutes(mesh, { service, port, services, client });
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  // Who else is there matters only where a short name could be meant for them.
  const domains = domainsOf(mesh, parts);
  const inputs = [...found.inputs, rule, mesh.settings, domains.join()];
  const byKey = cached(hosts, service, () => new Map<string, RememberedHost>());
  const key = service.ports.length === 1 ? client.namespace : `${client.namespace} ${port.number}`;
  const known = byKey.get(key);
  if (known && known.inputs.length === inputs.length && known.inputs.every((one, at) => one === inputs[at]))
    return known.piece;
  const name = `${service.hostname}:${port.number}`;
  const message: MessageInitShape<typeof VirtualHostSchema> = {
    name,
    domains,
    includeRequestAttemptCount: true,
    routes: found.routes() ?? [defaultRoute(mesh, { service, port, client })],
  };
  const piece = routesPiece(name, { virtualHosts: [message], ...bodyLimit(message.routes ?? []) }, [
    ...service.origins,
    ...found.origins,
  ]);
  byKey.set(key, { inputs, piece });
  return piece;
}

/** Whether a service of this cluster has the name that a global host has in its own cluster. */
function hasLocalTwin(mesh: Mesh, service: Service, services: ReadonlyMap<Hostname, Service>): boolean {
  if (!isGlobal(service.hostname)) return false;
  const short = service.hostname.slice(0, -".global".length);
  return services.has(`${short}.svc.${mesh.settings.clusterDomain}` as Hostname);
}

/** To the service itself, whatever is asked. */
function defaultRoute(
  mesh: Mesh,
  { service, port, client }: Pick<HostParts, "service" | "port" | "client">,
): MessageInitShape<typeof RouteSchema> {
  const traffic = outbound(service.hostname, port.number);
  const cluster = clusterName(port.protocol === "unset" ? { ...traffic, http: true } : traffic);
  return {
    name: "default",
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    decorator: { operation: `${service.hostname}:${port.number}/*` },
    action: {
      case: "route",
      value: {
        clusterSpecifier: { case: "cluster", value: cluster },
        timeout: milliseconds(0),
        retryPolicy: defaultRetries,
        hashPolicy: hashPolicyOf(mesh, { service, port: port.number, subset: undefined, client }),
      },
    },
  };
}

/** Every way in which a request may name the service: with and without port, its addresses, and its short names. */
function domainsOf(mesh: Mesh, { service, port, services, client }: HostParts): string[] {
  // On its own address nobody else can be meant, whatever name a caller writes.
  if (port.protocol === "unset" && service.addresses.length > 0) return ["*"];
  // A domain may stand only once in a route configuration: a name that somebody declares in full is never a short one.
  const free = (name: string) => !services.has(name as Hostname);
  const names: string[] = [service.hostname, ...shortNames(mesh, { service, services, client }).filter(free)];
  if (service.headless) for (const name of [...names]) if (free(`*.${name}`)) names.push(`*.${name}`);
  for (const ip of service.namedByAddress ? service.addresses : []) names.push(ipFamily(ip) === 6 ? `[${ip}]` : ip);
  return names.flatMap((name) => [name, `${name}:${port.number}`]);
}

function shortNames(mesh: Mesh, { service, services, client }: Omit<HostParts, "port">): readonly string[] {
  const host: string = service.hostname;
  const domain = mesh.settings.clusterDomain;
  const local = `.svc.${domain}`;
  if (host.endsWith(local) && service.registry === "kubernetes") {
    const { name, namespace } = service;
    const short = [`${name}.${namespace}`, `${name}.${namespace}.svc`];
    const [top] = domain.split(".");
    if (domain.includes(".")) short.push(`${name}.${namespace}.svc.${top}`);
    return namespace === client.namespace ? [name, ...short] : short;
  }
  // The pod's search domain makes `httpbin.bar` of `httpbin.bar.global`, but what the cluster itself has comes first.
  if (isGlobal(host) && !host.startsWith("*")) {
    const short = host.slice(0, -".global".length);
    if (short.split(".").length === 2 && !hasLocalTwin(mesh, service, services)) return [short];
  }
  return [];
}
