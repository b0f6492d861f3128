import { create } from "@bufbuild/protobuf";
import type { Mesh, Service, ServicePort } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  type FilterChainSchema,
  type ListenerFilter,
  ListenerFilterSchema,
} from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpInspectorSchema } from "../proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { TlsInspectorSchema } from "../proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import type { Versioned } from "../proto/index.ts";
import { type Cidr, clusterName, type Ip, isHttp, isTls, type Origin, outbound } from "../values/index.ts";
import { accessLog } from "./access-log.ts";
import type { Client } from "./client.ts";
import { versioned } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { tcpDestination } from "./tcp-routes.ts";
import { extension, type Fields, milliseconds, socketAddress } from "./typed.ts";

export const ports = { outbound: 15001, inbound: 15006 } as const;

/** What an HTTP inspector, or a ClientHello, calls plain HTTP. */
export const plainHttp = ["http/1.0", "http/1.1", "h2c"] as const;

export const listenerFilters = {
  originalDestination: create(
    ListenerFilterSchema,
    extension("envoy.filters.listener.original_dst", OriginalDstSchema, {}),
  ),
  tls: create(ListenerFilterSchema, extension("envoy.filters.listener.tls_inspector", TlsInspectorSchema, {})),
  http: create(ListenerFilterSchema, extension("envoy.filters.listener.http_inspector", HttpInspectorSchema, {})),
} satisfies Record<string, ListenerFilter>;

/** Where calls go that no service claims. */
export function fallbackCluster(mesh: Mesh): string {
  return mesh.settings.outboundPolicy === "ALLOW_ANY" ? fixedNames.passthrough : fixedNames.blackHole;
}

/**
 * A declared HTTP port may wait long for its first byte: taking a slow client for TCP would send its request to an
 * address that does not exist. Only a server that speaks first, behind somebody else's port of the same number, pays.
 */
const httpPatienceMs = 5_000;

/** 15001: takes what was captured, hands it to the listener of its destination, and has an answer when there is none. */
export function virtualOutbound(mesh: Mesh): Versioned {
  const name = "virtualOutbound";
  return versioned(ListenerSchema, {
    name,
    origins: [],
    message: {
      name,
      address: socketAddress("0.0.0.0", ports.outbound),
      useOriginalDst: true,
      trafficDirection: TrafficDirection.OUTBOUND,
      accessLog: [accessLog(name, "connections")],
      filterChains: [loopGuard(name, ports.outbound)],
      defaultFilterChain: {
        name: "virtualOutbound-catchall-tcp",
        filters: [tcpProxy({ listener: name, statPrefix: fallbackCluster(mesh), to: fallbackCluster(mesh) })],
      },
    },
  });
}

/**
 * For applications that know of the proxy: HTTP proxy and SOCKS on loopback. Where a call is meant for is said in it,
 * and from there on everything is as if it had been captured.
 */
export function explicitOutbound(mesh: Mesh, port: number): Versioned {
  const name = "explicit";
  return versioned(ListenerSchema, {
    name,
    origins: [],
    message: {
      name,
      address: socketAddress("127.0.0.1", port),
      useOriginalDst: true,
      trafficDirection: TrafficDirection.OUTBOUND,
      metadata: { filterMetadata: { isthmus: { explicit: true } } },
      accessLog: [accessLog(name, "connections")],
      defaultFilterChain: {
        name: "explicit-catchall-tcp",
        filters: [tcpProxy({ listener: name, statPrefix: fallbackCluster(mesh), to: fallbackCluster(mesh) })],
      },
    },
  });
}

/** A connection to the capturing port itself would be captured by it again, for ever. */
export function loopGuard(listener: string, port: number): Fields<typeof FilterChainSchema> {
  return {
    name: `${listener}-trafficloop`,
    filterChainMatch: { destinationPort: port },
    filters: [tcpProxy({ listener, statPrefix: fixedNames.blackHole, to: fixedNames.blackHole })],
  };
}

interface Wanted {
  readonly bind: string;
  readonly port: number;
  /** Services spoken HTTP with on this address and port. */
  http: boolean;
  /** Routes of the HTTP part: the port's, or one service's own. */
  readonly routes: string;
  readonly tcp: TcpChain[];
  readonly origins: Set<Origin>;
}

interface TcpChain {
  readonly service: Service;
  readonly port: ServicePort;
  /** Ranges of destinations; empty for all that reach the listener. */
  readonly ranges: readonly Cidr[];
  readonly serverNames: readonly string[];
}

/** Every outbound listener beside 15001, by name. They are not bound: 15001 hands connections to them. */
export function outboundListeners(mesh: Mesh, services: Iterable<Service>, client: Client): Map<string, Versioned> {
  const wanted = new Map<string, Wanted>();
  for (const service of services) {
    for (const port of service.ports) if (port.protocol !== "udp") want(wanted, service, port);
  }
  const listeners = new Map<string, Versioned>();
  for (const [name, one] of wanted) {
    const made = makeListener(mesh, { name, wanted: one, client });
    if (made) listeners.set(name, made);
  }
  return listeners;
}

const everywhere = "0.0.0.0";

function want(wanted: Map<string, Wanted>, service: Service, port: ServicePort): void {
  const at = (bind: string, routes: string): Wanted => {
    const name = `${bind}_${port.number}`;
    let one = wanted.get(name);
    if (!one) {
      one = { bind, port: port.number, http: false, routes, tcp: [], origins: new Set() };
      wanted.set(name, one);
    }
    for (const origin of service.origins) one.origins.add(origin);
    return one;
  };
  if (isHttp(port.protocol)) {
    at(everywhere, String(port.number)).http = true;
    return;
  }
  const sniffed = port.protocol === "unset";
  const ips = destinationsOf(service);
  for (const ip of ips) {
    const one = at(ip, `${service.hostname}:${port.number}`);
    if (one.tcp.length > 0) continue;
    one.tcp.push({ service, port, ranges: [], serverNames: [] });
    if (sniffed) one.http = true;
  }
  if (ips.length > 0 && service.ranges.length === 0) return;
  // Without an address TCP cannot be told apart: only where it goes on to where it was going anyway is that no harm.
  const harmless = service.resolution === "passthrough" && !service.headless;
  const chosenBySni = isTls(port.protocol);
  if (service.ranges.length === 0 && !harmless && !chosenBySni) {
    if (sniffed && ips.length === 0 && !service.headless) at(everywhere, String(port.number)).http = true;
    return;
  }
  const one = at(everywhere, String(port.number));
  one.tcp.push({ service, port, ranges: service.ranges, serverNames: isTls(port.protocol) ? [service.hostname] : [] });
  if (sniffed) one.http = true;
}

/** The addresses that callers connect to: virtual ones, or the pods' own where a service has no virtual one. */
function destinationsOf(service: Service): readonly Ip[] {
  if (!service.headless) return service.addresses;
  return [...new Set(service.endpoints.map((one) => one.address as Ip))];
}

function makeListener(
  mesh: Mesh,
  { name, wanted, client }: { readonly name: string; readonly wanted: Wanted; readonly client: Client },
): Versioned | undefined {
  const { bind, port, http, tcp } = wanted;
  const fallback = fallbackCluster(mesh);
  const chains: Fields<typeof FilterChainSchema>[] = [];
  if (http)
    chains.push({
      name: `${name}-http`,
      // A ClientHello may offer http/1.1 too; that is not plain HTTP.
      filterChainMatch: { transportProtocol: "raw_buffer", applicationProtocols: [...plainHttp] },
      filters: [httpConnection({ listener: name, side: "outbound", routes: { kind: "named", name: wanted.routes } })],
    });
  let last: Fields<typeof FilterChainSchema> | undefined;
  const seen = new Set<string>();
  // The list is in order of host name; of chains that match the same, a listener can have only one.
  for (const { service, port: servicePort, ranges, serverNames } of tcp) {
    const filters = [
      tcpProxy({
        listener: name,
        statPrefix: clusterName(outbound(service.hostname, servicePort.number)),
        to: tcpDestination(mesh, { service, port: servicePort, client }),
      }),
    ];
    if (ranges.length === 0 && serverNames.length === 0) {
      last ??= { name: `${name}-tcp`, filters };
      continue;
    }
    const match = {
      prefixRanges: ranges.map(({ ip, prefix }) => ({ addressPrefix: ip as string, prefixLen: prefix })),
      serverNames: [...serverNames],
    };
    const identity = JSON.stringify(match);
    if (seen.has(identity)) continue;
    seen.add(identity);
    chains.push({ name: `${name}-${service.hostname}`, filterChainMatch: match, filters });
  }
  last ??= {
    name: "PassthroughFilterChain",
    filters: [tcpProxy({ listener: name, statPrefix: fallback, to: fallback })],
  };
  const inspects = http || tcp.some((one) => one.serverNames.length > 0);
  return versioned(ListenerSchema, {
    name,
    origins: [...wanted.origins],
    message: {
      name,
      address: socketAddress(bind, port),
      bindToPort: false,
      trafficDirection: TrafficDirection.OUTBOUND,
      filterChains: chains,
      defaultFilterChain: last,
      ...(inspects
        ? {
            listenerFilters: [listenerFilters.tls, ...(http ? [listenerFilters.http] : [])],
            listenerFiltersTimeout: milliseconds(tcp.length > 0 ? mesh.settings.detectionTimeoutMs : httpPatienceMs),
            continueOnListenerFiltersTimeout: true,
          }
        : {}),
    },
  });
}
