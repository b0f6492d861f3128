import { cached, type Mesh, type Service, type ServicePort } from "../model/index.ts";
import type { Versioned } from "../proto/index.ts";
import { changesBetween, type Hostname, isHttp, SortedMap } from "../values/index.ts";
import type { Client } from "./client.ts";
import { joined, type Piece, routesPiece, sameContent } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import type { Seen } from "./touched.ts";
import { milliseconds } from "./typed.ts";
import { virtualHost } from "./virtual-hosts.ts";

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
    piece = routesPiece(name, { name, validateClusters: false }, []);
    headers.set(name, piece);
  }
  return piece;
}

/** What becomes of a request for a host that nobody declared. */
function fallback(mesh: Mesh): Piece {
  return mesh.settings.outboundPolicy === "ALLOW_ANY" ? allowAny : blockAll;
}

const allowAny = routesPiece(
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

const blockAll = routesPiece(
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
