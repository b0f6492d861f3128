import type { ServicePort } from "../model/index.ts";
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type ClusterSchema,
} from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { isHttp, isHttp2 } from "../values/index.ts";
import type { PortPolicy } from "./policy.ts";
import { httpProtocols } from "./protocol-options.ts";
import { type Fields, milliseconds } from "./typed.ts";

/** How a cluster picks an endpoint. */
export function balancing(policy: PortPolicy, found: Cluster_DiscoveryType): Fields<typeof ClusterSchema> {
  if (found === Cluster_DiscoveryType.ORIGINAL_DST) return { lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED };
  const hash = policy.loadBalancer?.consistentHash;
  if (hash) {
    const minimumRingSize = BigInt(hash.ringHash?.minimumRingSize ?? hash.minimumRingSize ?? 1024);
    return { lbPolicy: Cluster_LbPolicy.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize } } };
  }
  switch (policy.loadBalancer?.simple) {
    case "LEAST_CONN":
    case "LEAST_REQUEST":
      return { lbPolicy: Cluster_LbPolicy.LEAST_REQUEST };
    case "RANDOM":
      return { lbPolicy: Cluster_LbPolicy.RANDOM };
    default:
      return { lbPolicy: Cluster_LbPolicy.ROUND_ROBIN };
  }
}

const unlimited = 4_294_967_295;

/** Limits, and when an endpoint is taken out of use. */
export function pools({ connectionPool, outlierDetection }: PortPolicy): Fields<typeof ClusterSchema> {
  const { tcp, http } = connectionPool ?? {};
  const keepalive = tcp?.tcpKeepalive;
  return {
    circuitBreakers: {
      thresholds: [
        {
          maxConnections: tcp?.maxConnections || unlimited,
          maxPendingRequests: http?.http1MaxPendingRequests || unlimited,
          maxRequests: http?.http2MaxRequests || unlimited,
          maxRetries: http?.maxRetries || unlimited,
        },
      ],
    },
    ...(keepalive
      ? {
          upstreamConnectionOptions: {
            tcpKeepalive: {
              ...(keepalive.probes === undefined ? {} : { keepaliveProbes: keepalive.probes }),
              ...(keepalive.time === undefined ? {} : { keepaliveTime: Math.ceil(keepalive.time / 1000) }),
              ...(keepalive.interval === undefined ? {} : { keepaliveInterval: Math.ceil(keepalive.interval / 1000) }),
            },
          },
        }
      : {}),
    ...(outlierDetection
      ? {
          outlierDetection: {
            enforcingSuccessRate: 0,
            ...(outlierDetection.consecutive5xxErrors === undefined
              ? {}
              : {
                  consecutive5xx: outlierDetection.consecutive5xxErrors,
                  enforcingConsecutive5xx: outlierDetection.consecutive5xxErrors > 0 ? 100 : 0,
                }),
            ...gatewayErrors(outlierDetection.consecutiveGatewayErrors ?? outlierDetection.consecutiveErrors),
            ...(outlierDetection.interval === undefined ? {} : { interval: milliseconds(outlierDetection.interval) }),
            ...(outlierDetection.baseEjectionTime === undefined
              ? {}
              : { baseEjectionTime: milliseconds(outlierDetection.baseEjectionTime) }),
            ...(outlierDetection.maxEjectionPercent === undefined
              ? {}
              : { maxEjectionPercent: outlierDetection.maxEjectionPercent }),
          },
          commonLbConfig: {
            healthyPanicThreshold: { value: outlierDetection.minHealthPercent ?? 0 },
          },
        }
      : {}),
  };
}

const gatewayErrors = (count: number | undefined) =>
  count === undefined
    ? {}
    : { consecutiveGatewayFailure: count, enforcingConsecutiveGatewayFailure: count > 0 ? 100 : 0 };

/** What is spoken to the endpoints. */
export function protocolOptions(port: ServicePort, { connectionPool }: PortPolicy) {
  const http = connectionPool?.http;
  const upgraded = isHttp(port.protocol) && http?.h2UpgradePolicy === "UPGRADE";
  return httpProtocols({
    speak:
      port.protocol === "unset" || http?.useClientProtocol
        ? "downstream"
        : isHttp2(port.protocol) || upgraded
          ? "http2"
          : "http1",
    maxRequestsPerConnection: http?.maxRequestsPerConnection,
    idleTimeoutMs: http?.idleTimeout,
  });
}
