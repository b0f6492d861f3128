import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ForwardPolicy } from "../model/index.ts";
import type { Filter } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { FilterSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import { CorsSchema } from "../proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RouterSchema } from "../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ForwardClientCertDetails,
  HttpConnectionManagerSchema,
} from "../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { accessLog } from "./access-log.ts";
import type { TcpOptions } from "./tcp-options.ts";
import { extension, fromAds, milliseconds } from "./typed.ts";

/** Where an HTTP connection finds its routes: told later under a name, or written in the listener itself. */
export type Routes =
  | { readonly kind: "named"; readonly name: string }
  | { readonly kind: "inline"; readonly routes: MessageInitShape<typeof RouteConfigurationSchema> };

/** Which way a connection goes, seen from the proxy; it decides which headers are believed. */
export type HttpSide = "outbound" | "inbound" | "edge";

/** The HTTP filters of every connection, ending in the router. */
export const httpFilters = [
  extension("envoy.filters.http.cors", CorsSchema, {}),
  extension("envoy.filters.http.fault", HTTPFaultSchema, {}),
  extension("envoy.filters.http.router", RouterSchema, {}),
];

/** A filter that reads HTTP and routes each request. */
export function httpConnection(options: {
  readonly listener: string;
  readonly side: HttpSide;
  readonly routes: Routes;
  /** What becomes of `x-forwarded-client-cert` at the edge. */
  readonly forward?: ForwardPolicy | undefined;
}): Filter {
  const { listener, side, routes, forward = "SANITIZE_SET" } = options;
  const inbound = side === "inbound";
  return create(
    FilterSchema,
    extension("envoy.filters.network.http_connection_manager", HttpConnectionManagerSchema, {
      statPrefix: `${side}_${listener}`,
      codecType: HttpConnectionManager_CodecType.AUTO,
      routeSpecifier:
        routes.kind === "named"
          ? { case: "rds", value: { routeConfigName: routes.name, configSource: fromAds } }
          : { case: "routeConfig", value: routes.routes },
      httpFilters,
      accessLog: [accessLog(listener, "requests")],
      normalizePath: true,
      useRemoteAddress: side === "edge",
      generateRequestId: true,
      streamIdleTimeout: milliseconds(0),
      upgradeConfigs: [{ upgradeType: "websocket" }],
      ...(side === "outbound"
        ? {}
        : {
            forwardClientCertDetails: inbound
              ? HttpConnectionManager_ForwardClientCertDetails.APPEND_FORWARD
              : HttpConnectionManager_ForwardClientCertDetails[forward],
            setCurrentClientCertDetails: { subject: true, uri: true, dns: true },
          }),
    }),
  );
}

/** One that does not answer is no reason to fail while others do: so many are tried before a connection is given up. */
const connectAttempts = 3;

/** A filter that passes bytes on to one cluster, or to several by weight. */
export function tcpProxy(options: {
  readonly listener: string;
  readonly statPrefix: string;
  readonly to: string | ReadonlyArray<{ readonly cluster: string; readonly weight: number }>;
  /** Also a line when the connection is made: one that carries many calls is seen while it is open. */
  readonly logAtStart?: boolean;
  readonly connection?: TcpOptions;
  /** 1 where the cluster has one place to go: to try it again would only make the caller wait. */
  readonly attempts?: number;
}): Filter {
  const { listener, statPrefix, to, logAtStart = false, connection = {}, attempts = connectAttempts } = options;
  const { idleTimeoutMs, maxDurationMs, bySource = false } = connection;
  return create(
    FilterSchema,
    extension("envoy.filters.network.tcp_proxy", TcpProxySchema, {
      statPrefix,
      clusterSpecifier:
        typeof to === "string"
          ? { case: "cluster", value: to }
          : {
              case: "weightedClusters",
              value: { clusters: to.map(({ cluster, weight }) => ({ name: cluster, weight })) },
            },
      maxConnectAttempts: attempts,
      ...(idleTimeoutMs === undefined ? {} : { idleTimeout: milliseconds(idleTimeoutMs) }),
      ...(maxDurationMs === undefined ? {} : { maxDownstreamConnectionDuration: milliseconds(maxDurationMs) }),
      ...(bySource ? { hashPolicy: [{ policySpecifier: { case: "sourceIp", value: {} } }] } : {}),
      accessLog: [accessLog(listener, "connections")],
      ...(logAtStart ? { accessLogOptions: { flushAccessLogOnConnected: true } } : {}),
    }),
  );
}
