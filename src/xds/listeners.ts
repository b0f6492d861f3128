import { create } from "@bufbuild/protobuf";
import type { Mesh } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  type FilterChainSchema,
  type ListenerFilter,
  ListenerFilterSchema,
} from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpInspectorSchema } from "../proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { ProxyProtocolSchema } from "../proto/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { TlsInspectorSchema } from "../proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import type { Versioned } from "../proto/index.ts";
import { accessLog } from "./access-log.ts";
import { versioned } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import { tcpProxy } from "./http-connection.ts";
import { extension, type Fields, socketAddress } from "./typed.ts";

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

/** Takes who called from a header that a balancer in front writes: always, or where there is one. */
export function proxyProtocol(wanted: "require" | "accept"): ListenerFilter {
  return create(
    ListenerFilterSchema,
    extension("envoy.filters.listener.proxy_protocol", ProxyProtocolSchema, {
      allowRequestsWithoutProxyProtocol: wanted === "accept",
    }),
  );
}

/** Where calls go that no service claims. */
export function fallbackCluster(mesh: Mesh): string {
  return mesh.settings.outboundPolicy === "ALLOW_ANY" ? fixedNames.passthrough : fixedNames.blackHole;
}

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
        filters: [
          tcpProxy({ listener: name, statPrefix: fallbackCluster(mesh), to: fallbackCluster(mesh), attempts: 1 }),
        ],
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
      // An Envoy gets its connections from the agent, which heard the wish and says it in this header.
      listenerFilters: [proxyProtocol("require")],
      accessLog: [accessLog(name, "connections")],
      filterChains: [loopGuard(name, port)],
      defaultFilterChain: {
        name: "explicit-catchall-tcp",
        filters: [
          tcpProxy({ listener: name, statPrefix: fallbackCluster(mesh), to: fallbackCluster(mesh), attempts: 1 }),
        ],
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
