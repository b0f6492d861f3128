import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { cached, isGlobal, type Mesh, ruleFor, type Service, type ServicePort } from "../model/index.ts";
import type { RouteSchema, VirtualHostSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import type { Versioned } from "../proto/index.ts";
import { changesBetween, clusterName, type Hostname, ipFamily, isHttp, outbound, SortedMap } from "../values/index.ts";
import type { Client } from "./client.ts";
import { digest, joined, type Piece, sameContent } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import { defaultRetries } from "./retries.ts";
import { hashPolicyOf } from "./route-action.ts";
import type { Seen } from "./touched.ts";
import { milliseconds } from "./typed.ts";
import { virtualHostRoutes } from "./virtual-routes.ts";

type Hosts = SortedMap<Hostname, readonly Piece[]>;

/** The route configurations of a sidecar: one a port, and one for each port without a declared protocol. */
export interface RouteStage {
  /** The virtual hosts of each, by the host that they are for. */
  readonly hosts: SortedMap<string, Hosts>;
  readonly made: SortedMap<string, Versioned>;
}

export const noRoutes: RouteStage = { hosts: SortedMap.empty(), made: SortedMap.empty() };

/** Makes anew the virtual hosts of touched hosts, and with them the configurations that they stand in. */
export function nextRoutes(
  before: RouteStage,
  parts: {
    readonly before: Pick<Seen, "services">;
    readonly now: Seen;
    readonly touched: ReadonlySet<Hostname>;
    readonly client: Client;
  },
): RouteStage {
  const { now, touched, client } = parts;
  const { mesh, services } = now;
  const edits = new Map<string, Map<Hostname, Piece[] | undefined>>();
  const editOf = (name: string) => cached(edits, name, () => new Map<Hostname, Piece[] | undefined>());
  for (const host of touched) {
    const [old, service] = [parts.before.services.get(host), services.get(host)];
    for (const port of old?.ports ?? []) for (const name of routesNamed(old!, port)) editOf(name).set(host, undefined);
    for (const port of service?.ports ?? []) {
      for (const name of routesNamed(service!, port)) {
        const piece = virtualHost(mesh, { service: service!, port, services, client });
        editOf(name).set(host, [...(editOf(name).get(host) ?? []), piece]);
      }
    }
  }
  const hosts = before.hosts.with(
    [...edits].map(([name, edit]) => {
      const own = (before.hosts.get(name) ?? SortedMap.empty<Hostname, readonly Piece[]>()).with(
        // Pieces that say the same are no change.
        [...edit].map(([host, pieces]) => {
          const known = before.hosts.get(name)?.get(host);
          return [host, known && pieces && samePieces(known, pieces) ? known : pieces];
        }),
      );
      return [name, own.size > 0 ? own : undefined];
    }),
  );
  const made = before.made.with(
    changesBetween(before.hosts, hosts).map(({ key: name, after }) => [
      name,
      after && joined(name, { first: header(name), middle: after, ...(isPort(name) ? { last: fallback(mesh) } : {}) }),
    ]),
  );
  return { hosts, made };
}

const isPort = (name: string) => !name.includes(":");

/** The route configuration that requests to a port of a service follow, if they are looked at. */
function routesNamed({ hostname, addresses }: Service, { number, protocol }: ServicePort): readonly string[] {
  if (isHttp(protocol)) return [String(number)];
  if (protocol !== "unset") return [];
  return addresses.length > 0 ? [`${hostname}:${number}`] : [String(number)];
}

function samePieces(before: readonly Piece[], after: readonly Piece[]): boolean {
  return before.length === after.length && before.every((one, at) => sameContent(one, after[at]!));
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
  const piece = pieceOf(name, { virtualHosts: [message] }, [...service.origins, ...found.origins]);
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
