import type { CircuitBreakers_Thresholds } from "../../proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import {
  type Cluster,
  Cluster_ClusterProtocolSelection,
  ClusterSchema,
} from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { OutlierDetection } from "../../proto/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { RoutingPriority } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { HttpProtocolOptionsSchema } from "../../proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { isPacked } from "../../proto/index.ts";
import { type Ip, parseIp } from "../../values/index.ts";
import { type Balancing, readBalancing } from "./balancing.ts";
import { type Discovery, readDiscovery } from "./discovery.ts";
import { plainMetadata } from "./endpoints.ts";
import { type HealthRules, readHealthChecks } from "./health-check.ts";
import { type Place, type Read, readAny, readBytes, readDuration } from "./reading.ts";
import { rawTransport, readUpstreamTransport, type UpstreamTransport } from "./transport.ts";

/** When an endpoint is left out for a while. Counts of 0 switch a cause off. */
export interface OutlierRules {
  readonly consecutive5xx: number;
  readonly consecutiveGatewayErrors: number;
  readonly consecutiveLocalErrors: number;
  /** Connection failures are counted apart from answers of the server. */
  readonly splitLocal: boolean;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxEjectionPercent: number;
  /** One endpoint may be left out, however large a share of all it is. */
  readonly always: boolean;
  /** An answer that it is well lets it in again before its time. */
  readonly readmitWell: boolean;
}

/** What a cluster runs by. */
export interface ClusterConfig {
  readonly name: string;
  readonly discovery: Discovery;
  readonly connectTimeoutMs: number;
  readonly balancing: Balancing;
  /** Localities are weighed against each other; otherwise all endpoints of a priority are one set. */
  readonly weighLocalities: boolean;
  /** Percent of healthy endpoints below which health is ignored. */
  readonly panicThreshold: number;
  readonly transport: UpstreamTransport;
  /** The first whose pairs an endpoint's metadata all has is used in place of `transport`. */
  readonly transportMatches: ReadonlyArray<{
    readonly name: string;
    readonly match: Readonly<Record<string, unknown>>;
    readonly transport: UpstreamTransport;
  }>;
  readonly limits: {
    readonly maxConnections: number;
    readonly maxPendingRequests: number;
    readonly maxRequests: number;
    readonly maxRetries: number;
    /** In place of a fixed limit on retries: a share, in percent, of the requests that run, but never less than a few. */
    readonly retryBudget: { readonly percent: number; readonly least: number } | undefined;
  };
  /** Endpoints are asked whether they are well. */
  readonly health: HealthRules | undefined;
  readonly outlier: OutlierRules | undefined;
  readonly httpProtocol: "http1" | "http2" | "downstream";
  readonly maxRequestsPerConnection: number | undefined;
  readonly idleTimeoutMs: number;
  /** A connection carries nothing new when it is older than this; undefined for no limit. */
  readonly maxDurationMs: number | undefined;
  readonly keepalive: { readonly idleMs: number } | undefined;
  /** Local address of connections, where the routing of the host asks for one (`127.0.0.6`). */
  readonly bindTo: Ip | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const hourMs = 3_600_000;

export function readCluster(bytes: Uint8Array): Read<ClusterConfig> {
  return readBytes(ClusterSchema, bytes, (message, place) => {
    if (message.name === "") place.field("name").refuse("is missing");
    const discovery = readDiscovery(message, place);
    const http = readHttpOptions(message, place);
    const connectTimeoutMs = readDuration(message.connectTimeout, 5000, place.field("connect_timeout"));
    if (connectTimeoutMs === 0) place.field("connect_timeout").refuse("must be more than 0");
    const lbConfig = message.commonLbConfig;
    const keepalive = message.upstreamConnectionOptions?.tcpKeepalive;
    const bind = message.upstreamBindConfig?.sourceAddress?.address;
    const bindTo = bind === undefined || bind === "0.0.0.0" || bind === "::" ? undefined : parseIp(bind);
    if (bind && bind !== "0.0.0.0" && bind !== "::" && !bindTo)
      place.field("upstream_bind_config.source_address.address").refuse(`must be an IP address, got "${bind}"`);
    const config = discovery && {
      name: message.name,
      discovery,
      connectTimeoutMs,
      balancing: readBalancing(message, place),
      weighLocalities: lbConfig?.localityConfigSpecifier.case === "localityWeightedLbConfig",
      panicThreshold: lbConfig?.healthyPanicThreshold?.value ?? 50,
      transport: message.transportSocket
        ? (readUpstreamTransport(message.transportSocket, place.field("transport_socket")) ?? rawTransport)
        : rawTransport,
      transportMatches: readMatches(message, place),
      limits: readLimits(message),
      health: readHealthChecks(message.healthChecks, place.field("health_checks")),
      outlier: message.outlierDetection && readOutlier(message.outlierDetection, place.field("outlier_detection")),
      ...http,
      keepalive: keepalive && { idleMs: (keepalive.keepaliveTime ?? 7200) * 1000 },
      bindTo,
      metadata: plainMetadata(message.metadata),
    };
    return config;
  });
}

function readMatches(message: Cluster, place: Place): ClusterConfig["transportMatches"] {
  return message.transportSocketMatches.flatMap((each, index) => {
    const at = place.field("transport_socket_matches").item(index).field("transport_socket");
    if (!each.transportSocket) {
      at.refuse("is missing");
      return [];
    }
    const transport = readUpstreamTransport(each.transportSocket, at);
    return transport ? [{ name: each.name, match: each.match ?? {}, transport }] : [];
  });
}

function readLimits(message: Cluster): ClusterConfig["limits"] {
  const given = message.circuitBreakers?.thresholds.find(({ priority }) => priority === RoutingPriority.DEFAULT);
  return {
    maxConnections: given?.maxConnections ?? 1024,
    maxPendingRequests: given?.maxPendingRequests ?? 1024,
    maxRequests: given?.maxRequests ?? 1024,
    maxRetries: given?.maxRetries ?? 3,
    retryBudget: given?.retryBudget && readBudget(given.retryBudget),
  };
}

function readBudget(message: NonNullable<CircuitBreakers_Thresholds["retryBudget"]>) {
  return { percent: message.budgetPercent?.value ?? 20, least: message.minRetryConcurrency ?? 3 };
}

function readOutlier(message: OutlierDetection, place: Place): OutlierRules {
  const baseEjectionMs = readDuration(message.baseEjectionTime, 30_000, place.field("base_ejection_time"));
  const on = (
    count: number | undefined,
    otherwise: number,
    enforcing: number | undefined,
    enforcedOtherwise: number,
  ) => ((enforcing ?? enforcedOtherwise) === 0 ? 0 : (count ?? otherwise));
  return {
    consecutive5xx: on(message.consecutive5xx, 5, message.enforcingConsecutive5xx, 100),
    consecutiveGatewayErrors: on(message.consecutiveGatewayFailure, 5, message.enforcingConsecutiveGatewayFailure, 0),
    consecutiveLocalErrors: on(
      message.consecutiveLocalOriginFailure,
      5,
      message.enforcingConsecutiveLocalOriginFailure,
      100,
    ),
    splitLocal: message.splitExternalLocalOriginErrors,
    baseEjectionMs,
    maxEjectionMs: Math.max(
      baseEjectionMs,
      readDuration(message.maxEjectionTime, 300_000, place.field("max_ejection_time")),
    ),
    maxEjectionPercent: Math.min(100, message.maxEjectionPercent ?? 10),
    always: message.alwaysEjectOneHost ?? false,
    readmitWell: message.successfulActiveHealthCheckUnejectHost ?? true,
  };
}

function readHttpOptions(
  message: Cluster,
  place: Place,
): Pick<ClusterConfig, "httpProtocol" | "maxRequestsPerConnection" | "idleTimeoutMs" | "maxDurationMs"> {
  const key = HttpProtocolOptionsSchema.typeName;
  const typed = Object.entries(message.typedExtensionProtocolOptions).find(
    ([name, any]) => isPacked(any, HttpProtocolOptionsSchema) || name.endsWith(key),
  );
  const options =
    typed &&
    readAny(typed[1], HttpProtocolOptionsSchema, place.field(`typed_extension_protocol_options["${typed[0]}"]`));
  const common = options?.commonHttpProtocolOptions ?? message.commonHttpProtocolOptions;
  const idle = readDuration(common?.idleTimeout, hourMs, place.field("common_http_protocol_options.idle_timeout"));
  const perConnection = common?.maxRequestsPerConnection ?? message.maxRequestsPerConnection;
  return {
    httpProtocol: httpProtocol(message, options?.upstreamProtocolOptions, place),
    maxRequestsPerConnection: perConnection === 0 ? undefined : perConnection,
    idleTimeoutMs: idle,
    maxDurationMs: readDuration(
      common?.maxConnectionDuration,
      undefined,
      place.field("common_http_protocol_options.max_connection_duration"),
    ),
  };
}

type ProtocolOptions = NonNullable<
  ReturnType<typeof readAny<typeof HttpProtocolOptionsSchema>>
>["upstreamProtocolOptions"];

function httpProtocol(
  message: Cluster,
  chosen: ProtocolOptions | undefined,
  place: Place,
): ClusterConfig["httpProtocol"] {
  switch (chosen?.case) {
    case "explicitHttpConfig": {
      const protocol = chosen.value.protocolConfig.case;
      if (protocol === "http3ProtocolOptions") place.refuse("HTTP/3 is not spoken to endpoints");
      return protocol === "http2ProtocolOptions" ? "http2" : "http1";
    }
    case "useDownstreamProtocolConfig":
      return "downstream";
    case "autoConfig":
      // The protocol would be found by ALPN; HTTP/1.1 is what every such server understands.
      return "http1";
    default:
      if (message.protocolSelection === Cluster_ClusterProtocolSelection.USE_DOWNSTREAM_PROTOCOL) return "downstream";
      return message.http2ProtocolOptions ? "http2" : "http1";
  }
}
