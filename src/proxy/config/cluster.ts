import {
  type Cluster,
  Cluster_ClusterProtocolSelection,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { OutlierDetection } from "../../proto/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { RoutingPriority } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { LeastRequestSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { RingHashSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { HttpProtocolOptionsSchema } from "../../proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { isPacked } from "../../proto/index.ts";
import { type Ip, parseIp } from "../../values/index.ts";
import { type LoadAssignment, plainMetadata, readLoadAssignment } from "./endpoints.ts";
import { type Place, type Read, readAny, readBytes, readDuration } from "./reading.ts";
import { rawTransport, readUpstreamTransport, type UpstreamTransport } from "./transport.ts";

/** Where a cluster's endpoints come from. */
export type Discovery =
  | { readonly kind: "static"; readonly assignment: LoadAssignment }
  | { readonly kind: "eds"; readonly serviceName: string }
  | {
      readonly kind: "dns";
      /** `logical`: the answer is one endpoint, whichever address is used; `strict`: each address is one. */
      readonly mode: "strict" | "logical";
      readonly assignment: LoadAssignment;
      readonly refreshMs: number;
      readonly respectTtl: boolean;
      readonly family: "v4" | "v6" | "auto" | "all";
    }
  | { readonly kind: "original-destination"; readonly port: number | undefined };

export type Balancing =
  | { readonly kind: "round-robin" }
  | { readonly kind: "least-request"; readonly choices: number }
  | { readonly kind: "random" }
  | { readonly kind: "ring-hash"; readonly minSize: number; readonly maxSize: number };

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
  };
  readonly outlier: OutlierRules | undefined;
  readonly httpProtocol: "http1" | "http2" | "downstream";
  readonly maxRequestsPerConnection: number | undefined;
  readonly idleTimeoutMs: number;
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
    if (message.healthChecks.length > 0)
      place.field("health_checks").refuse("active health checks are not made; outlier detection watches real traffic");
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
      outlier: message.outlierDetection && readOutlier(message.outlierDetection, place.field("outlier_detection")),
      ...http,
      keepalive: keepalive && { idleMs: (keepalive.keepaliveTime ?? 7200) * 1000 },
      bindTo,
      metadata: plainMetadata(message.metadata),
    };
    return config;
  });
}

function readDiscovery(message: Cluster, place: Place): Discovery | undefined {
  const type = message.clusterDiscoveryType;
  const assignment = () =>
    message.loadAssignment
      ? readLoadAssignment(message.loadAssignment, place.field("load_assignment"))
      : { name: message.name, localities: [], overprovisioning: 140 };
  if (type.case === "clusterType")
    return place.field("cluster_type").refuse(`clusters of type "${type.value.name}" are not known`);
  switch (type.value ?? Cluster_DiscoveryType.STATIC) {
    case Cluster_DiscoveryType.STATIC: {
      const given = assignment();
      for (const [group, { endpoints }] of given.localities.entries())
        for (const [index, { host }] of endpoints.entries())
          if (!parseIp(host))
            place
              .field("load_assignment.endpoints")
              .item(group)
              .field("lb_endpoints")
              .item(index)
              .refuse(`must be an IP address in a STATIC cluster, got "${host}"`);
      return { kind: "static", assignment: given };
    }
    case Cluster_DiscoveryType.EDS: {
      const source = message.edsClusterConfig?.edsConfig?.configSourceSpecifier.case;
      if (source !== "ads" && source !== "self")
        place.field("eds_cluster_config.eds_config").refuse(`must be ads, got ${source ?? "nothing"}`);
      return { kind: "eds", serviceName: message.edsClusterConfig?.serviceName || message.name };
    }
    case Cluster_DiscoveryType.STRICT_DNS:
    case Cluster_DiscoveryType.LOGICAL_DNS: {
      const mode = type.value === Cluster_DiscoveryType.LOGICAL_DNS ? "logical" : "strict";
      const given = assignment();
      if (mode === "logical" && given.localities.flatMap((group) => group.endpoints).length !== 1)
        place.field("load_assignment").refuse("a LOGICAL_DNS cluster has exactly one endpoint");
      const refreshMs = readDuration(message.dnsRefreshRate, 5000, place.field("dns_refresh_rate"));
      if (refreshMs < 1) place.field("dns_refresh_rate").refuse("must be at least 1 ms");
      return {
        kind: "dns",
        mode,
        assignment: given,
        refreshMs,
        respectTtl: message.respectDnsTtl,
        family: dnsFamilies[message.dnsLookupFamily] ?? "auto",
      };
    }
    case Cluster_DiscoveryType.ORIGINAL_DST: {
      if (message.lbPolicy !== Cluster_LbPolicy.CLUSTER_PROVIDED)
        place.field("lb_policy").refuse("must be CLUSTER_PROVIDED in an ORIGINAL_DST cluster");
      const options = message.lbConfig.case === "originalDstLbConfig" ? message.lbConfig.value : undefined;
      if (options?.useHttpHeader)
        place
          .field("original_dst_lb_config.use_http_header")
          .refuse("a header of the caller does not choose where a connection goes");
      return { kind: "original-destination", port: options?.upstreamPortOverride };
    }
    default:
      return place.field("type").refuse(`is not known: ${type.value}`);
  }
}

const dnsFamilies: Readonly<Record<number, "v4" | "v6" | "auto" | "all">> = {
  [Cluster_DnsLookupFamily.AUTO]: "auto",
  [Cluster_DnsLookupFamily.V4_ONLY]: "v4",
  [Cluster_DnsLookupFamily.V6_ONLY]: "v6",
  [Cluster_DnsLookupFamily.V4_PREFERRED]: "auto",
  [Cluster_DnsLookupFamily.ALL]: "all",
};

const defaultRing = { minSize: 1024, maxSize: 8 * 1024 * 1024 };

function readBalancing(message: Cluster, place: Place): Balancing {
  for (const [index, policy] of (message.loadBalancingPolicy?.policies ?? []).entries()) {
    const typed = policy.typedExtensionConfig?.typedConfig;
    const at = place.field("load_balancing_policy.policies").item(index).field("typed_extension_config.typed_config");
    if (isPacked(typed, RoundRobinSchema)) return { kind: "round-robin" };
    if (isPacked(typed, LeastRequestSchema))
      return { kind: "least-request", choices: readAny(typed, LeastRequestSchema, at)?.choiceCount ?? 2 };
    if (isPacked(typed, RingHashSchema)) {
      const ring = readAny(typed, RingHashSchema, at);
      return ringHash(ring?.minimumRingSize, ring?.maximumRingSize, at);
    }
    // A list of policies is in order of preference: one that is not known gives way to the next.
  }
  if (message.loadBalancingPolicy) place.field("load_balancing_policy").refuse("names no policy that is known");
  const options = message.lbConfig;
  switch (message.lbPolicy) {
    case Cluster_LbPolicy.LEAST_REQUEST:
      return {
        kind: "least-request",
        choices: (options.case === "leastRequestLbConfig" ? options.value.choiceCount : undefined) ?? 2,
      };
    case Cluster_LbPolicy.RANDOM:
      return { kind: "random" };
    case Cluster_LbPolicy.RING_HASH:
    case Cluster_LbPolicy.MAGLEV: {
      // Both promise that a hash keeps its endpoint while others come and go; one ring serves either.
      const ring = options.case === "ringHashLbConfig" ? options.value : undefined;
      return ringHash(ring?.minimumRingSize, ring?.maximumRingSize, place.field("ring_hash_lb_config"));
    }
    case Cluster_LbPolicy.ROUND_ROBIN:
    case Cluster_LbPolicy.CLUSTER_PROVIDED:
      return { kind: "round-robin" };
    default:
      place.field("lb_policy").refuse(`is not known: ${message.lbPolicy}`);
      return { kind: "round-robin" };
  }
}

function ringHash(minimum: bigint | undefined, maximum: bigint | undefined, place: Place): Balancing {
  const minSize = Number(minimum ?? defaultRing.minSize);
  const maxSize = Number(maximum ?? defaultRing.maxSize);
  if (minSize > maxSize || maxSize > defaultRing.maxSize)
    place.refuse(`ring sizes must satisfy minimum ≤ maximum ≤ ${defaultRing.maxSize}, got ${minSize} and ${maxSize}`);
  return { kind: "ring-hash", minSize, maxSize };
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
  };
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
  };
}

function readHttpOptions(
  message: Cluster,
  place: Place,
): Pick<ClusterConfig, "httpProtocol" | "maxRequestsPerConnection" | "idleTimeoutMs"> {
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
