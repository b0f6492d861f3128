import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { cached, isGlobal, type Mesh, ruleFor, type Service, type ServicePort } from "../model/index.ts";
import type { RouteSchema, VirtualHostSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import { clusterName, type Hostname, ipFamily, isHttp, outbound } from "../values/index.ts";
import type { Client } from "./client.ts";
import { digest, joined, type Piece } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import { defaultRetries } from "./retries.ts";
import { hashPolicyOf } from "./route-action.ts";
import { milliseconds } from "./typed.ts";
import { virtualHostRoutes } from "./virtual-routes.ts";

/** Route configurations of a sidecar by name: one a port, and one for each port without a declared protocol. */
export function outboundRoutes(
  mesh: Mesh,
  services: ReadonlyMap<Hostname, Service>,
  client: Client,
): Map<string, Versioned> {
  const byPort = new Map<number, Piece[]>();
  const routes = new Map<string, Versioned>();
  for (const service of services.values()) {
    for (const port of service.ports) {
      if (isHttp(port.protocol)) {
        const list = byPort.get(port.number);
        const piece = virtualHost(mesh, { service, port, services, client });
        if (list) list.push(piece);
        else byPort.set(port.number, [piece]);
      } else if (port.protocol === "unset") {
        const name = `${service.hostname}:${port.number}`;
        const alone = virtualHost(mesh, { service, port, services, client });
        if (service.addresses.length > 0) routes.set(name, joined(name, [header(name), alone]));
        else byPort.set(port.number, [...(byPort.get(port.number) ?? []), alone]);
      }
    }
  }
  for (const [port, pieces] of byPort)
    routes.set(String(port), joined(String(port), [header(String(port)), ...pieces, fallback(mesh)]));
  return routes;
}

const headers = new Map<string, Piece>();

/** The part of a route configuration that is not its hosts. */
function header(name: string): Piece {
  let piece = headers.get(name);
  if (!piece) {
    if (headers.size > 10_000) headers.clear();
    piece = pieceOf(name, { name, validateClusters: false }, []);
    headers.set(name, piece);
  }
  return piece;
}

function pieceOf(
  name: string,
  message: MessageInitShape<typeof RouteConfigurationSchema>,
  origins: Piece["origins"],
): Piece {
  const bytes = toBinary(RouteConfigurationSchema, create(RouteConfigurationSchema, message));
  return { name, bytes, version: digest(bytes), origins };
}

/** What becomes of a request for a host that nobody declared. */
function fallback(mesh: Mesh): Piece {
  return mesh.settings.outboundPolicy === "ALLOW_ANY" ? allowAny : blockAll;
}

const allowAny = pieceOf(
  "allow_any",
  {
    virtualHosts: [
      {
        name: "allow_any",
        domains: ["*"],
        includeRequestAttemptCount: true,
        routes: [
          {
            name: "allow_any",
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            action: {
              case: "route",
              value: {
                clusterSpecifier: { case: "cluster", value: fixedNames.passthrough },
                timeout: milliseconds(0),
              },
            },
          },
        ],
      },
    ],
  },
  [],
);

const blockAll = pieceOf(
  "block_all",
  {
    virtualHosts: [
      {
        name: "block_all",
        domains: ["*"],
        includeRequestAttemptCount: true,
        routes: [
          {
            name: "block_all",
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            action: { case: "directResponse", value: { status: 502 } },
          },
        ],
      },
    ],
  },
  [],
);

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
function virtualHost(mesh: Mesh, parts: HostParts): Piece {
  const { service, port, services, client } = parts;
  const found = virtualHostRoutes(mesh, { service, port, services, client });
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  // The last three decide its domains: who else is there matters only where a short name could be meant for them.
  const inputs = [
    ...found.inputs,
    rule,
    mesh.settings,
    unusualHosts(mesh, services),
    hasLocalTwin(mesh, service, services),
  ];
  const byKey = cached(hosts, service, () => new Map<string, RememberedHost>());
  const key = service.ports.length === 1 ? client.namespace : `${client.namespace} ${port.number}`;
  const known = byKey.get(key);
  if (known && known.inputs.length === inputs.length && known.inputs.every((one, at) => one === inputs[at]))
    return known.piece;
  const name = `${service.hostname}:${port.number}`;
  const message: MessageInitShape<typeof VirtualHostSchema> = {
    name,
    domains: domainsOf(mesh, parts),
    includeRequestAttemptCount: true,
    routes: found.routes() ?? [defaultRoute(mesh, { service, port, client })],
  };
  const piece = pieceOf(name, { virtualHosts: [message] }, [...service.origins, ...found.origins]);
  byKey.set(key, { inputs, piece });
  return piece;
}

const unusual = new WeakMap<ReadonlyMap<Hostname, Service>, string>();

/** Hosts that are neither of the cluster's domain nor global, as one text: only they can be somebody's short name. */
function unusualHosts(mesh: Mesh, services: ReadonlyMap<Hostname, Service>): string {
  return cached(unusual, services, () => {
    const local = `.svc.${mesh.settings.clusterDomain}`;
    let all = " ";
    for (const host of services.keys()) if (!host.endsWith(local) && !isGlobal(host)) all += `${host} `;
    return all;
  });
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
  return {
    name: "default",
    match: { pathSpecifier: { case: "prefix", value: "/" } },
    decorator: { operation: `${service.hostname}:${port.number}/*` },
    action: {
      case: "route",
      value: {
        clusterSpecifier: { case: "cluster", value: clusterName(outbound(service.hostname, port.number)) },
        timeout: milliseconds(0),
        retryPolicy: defaultRetries,
        hashPolicy: hashPolicyOf(mesh, { service, port: port.number, subset: undefined, client }),
      },
    },
  };
}

/** Every way in which a request may name the service: with and without port, its addresses, and its short names. */
function domainsOf(mesh: Mesh, { service, port, services, client }: HostParts): string[] {
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
