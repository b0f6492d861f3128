import type { ServicePort } from "../model/index.ts";
import type { CircuitBreakers_ThresholdsSchema } from "../proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import {
  type Cluster_CommonLbConfigSchema,
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type ClusterSchema,
} from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { OutlierDetectionSchema } from "../proto/gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { isHttp, isHttp2 } from "../values/index.ts";
import type { Layout } from "./locality.ts";
import type { PortPolicy } from "./policy.ts";
import { httpProtocols } from "./protocol-options.ts";
import { type Fields, milliseconds } from "./typed.ts";

/** Istio's default too; a table of any prime size is allowed. */
const maglevTable = 65_537;

/** How a cluster picks an endpoint. */
export function balancing(policy: PortPolicy, found: Cluster_DiscoveryType): Fields<typeof ClusterSchema> {
  if (found === Cluster_DiscoveryType.ORIGINAL_DST) return { lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED };
  const hash = policy.loadBalancer?.consistentHash;
  if (hash?.maglev) {
    const tableSize = BigInt(hash.maglev.tableSize ?? maglevTable);
    return { lbPolicy: Cluster_LbPolicy.MAGLEV, lbConfig: { case: "maglevLbConfig", value: { tableSize } } };
  }
  if (hash) {
    const minimumRingSize = BigInt(hash.ringHash?.minimumRingSize ?? hash.minimumRingSize ?? 1024);
    return { lbPolicy: Cluster_LbPolicy.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize } } };
  }
  const slowStartConfig = slowStart(policy);
  switch (policy.loadBalancer?.simple) {
    case "LEAST_CONN":
    case "LEAST_REQUEST":
      return {
        lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
        ...(slowStartConfig ? { lbConfig: { case: "leastRequestLbConfig", value: { slowStartConfig } } } : {}),
      };
    case "RANDOM":
      return { lbPolicy: Cluster_LbPolicy.RANDOM };
    default:
      return {
        lbPolicy: Cluster_LbPolicy.ROUND_ROBIN,
        ...(slowStartConfig ? { lbConfig: { case: "roundRobinLbConfig", value: { slowStartConfig } } } : {}),
      };
  }
}

/** A new endpoint gets its full share only after a while. */
function slowStart({ loadBalancer }: PortPolicy) {
  const { warmup, warmupDurationSecs } = loadBalancer ?? {};
  const window = warmup?.duration ?? warmupDurationSecs;
  if (window === undefined) return undefined;
  return {
    slowStartWindow: milliseconds(window),
    aggression: { defaultValue: warmup?.aggression ?? 1, runtimeKey: "" },
    minWeightPercent: { value: warmup?.minimumPercent ?? 10 },
  };
}

const unlimited = 4_294_967_295;

/** Limits, and when an endpoint is taken out of use. */
export function pools(policy: PortPolicy): Fields<typeof ClusterSchema> {
  const { connectionPool, outlierDetection } = policy;
  const keepalive = connectionPool?.tcp?.tcpKeepalive;
  return {
    circuitBreakers: { thresholds: [thresholds(policy)] },
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
    ...(outlierDetection ? { outlierDetection: ejection(outlierDetection) } : {}),
  };
}

function thresholds({ connectionPool, retryBudget }: PortPolicy): Fields<typeof CircuitBreakers_ThresholdsSchema> {
  const { tcp, http } = connectionPool ?? {};
  return {
    maxConnections: tcp?.maxConnections || unlimited,
    maxPendingRequests: http?.http1MaxPendingRequests || unlimited,
    maxRequests: http?.http2MaxRequests || unlimited,
    maxRetries: http?.maxRetries || unlimited,
    // It takes the place of the limit on retries.
    ...(retryBudget
      ? {
          retryBudget: {
            budgetPercent: { value: retryBudget.percent ?? 20 },
            minRetryConcurrency: retryBudget.minRetryConcurrency ?? 3,
          },
        }
      : {}),
  };
}

type OutlierDetection = NonNullable<PortPolicy["outlierDetection"]>;

function ejection(rules: OutlierDetection): Fields<typeof OutlierDetectionSchema> {
  const { consecutive5xxErrors, consecutiveLocalOriginFailures, interval, baseEjectionTime } = rules;
  const gatewayErrors = rules.consecutiveGatewayErrors ?? rules.consecutiveErrors;
  return {
    enforcingSuccessRate: 0,
    ...(consecutive5xxErrors === undefined
      ? {}
      : { consecutive5xx: consecutive5xxErrors, enforcingConsecutive5xx: consecutive5xxErrors > 0 ? 100 : 0 }),
    ...(gatewayErrors === undefined
      ? {}
      : {
          consecutiveGatewayFailure: gatewayErrors,
          enforcingConsecutiveGatewayFailure: gatewayErrors > 0 ? 100 : 0,
        }),
    ...(rules.splitExternalLocalOriginErrors
      ? {
          splitExternalLocalOriginErrors: true,
          enforcingLocalOriginSuccessRate: 0,
          ...(consecutiveLocalOriginFailures === undefined
            ? {}
            : {
                consecutiveLocalOriginFailure: consecutiveLocalOriginFailures,
                enforcingConsecutiveLocalOriginFailure: consecutiveLocalOriginFailures > 0 ? 100 : 0,
              }),
        }
      : {}),
    ...(interval === undefined ? {} : { interval: milliseconds(interval) }),
    ...(baseEjectionTime === undefined ? {} : { baseEjectionTime: milliseconds(baseEjectionTime) }),
    ...(rules.maxEjectionPercent === undefined ? {} : { maxEjectionPercent: rules.maxEjectionPercent }),
    // Of two endpoints one is half: without this the usual ten percent would never let a small service lose any.
    ...(rules.maxEjectionPercent === 0 ? {} : { alwaysEjectOneHost: true }),
    // What real requests found is not undone by a question that was answered well.
    successfulActiveHealthCheckUnejectHost: false,
  };
}

/** How health and place weigh in the choice. */
export function commonBalancing(
  policy: PortPolicy,
  { layout, checked }: { readonly layout: Layout; readonly checked: boolean },
): Fields<typeof ClusterSchema> {
  const common: Fields<typeof Cluster_CommonLbConfigSchema> = {
    ...(policy.outlierDetection || checked
      ? { healthyPanicThreshold: { value: policy.outlierDetection?.minHealthPercent ?? 0 } }
      : {}),
    ...(layout.kind === "shared-out"
      ? { localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } }
      : {}),
  };
  return Object.keys(common).length > 0 ? { commonLbConfig: common } : {};
}

/** What is spoken to the endpoints. `http`: at a port of undeclared protocol HTTP was understood. */
export function protocolOptions(
  { port, http: understood }: { readonly port: ServicePort; readonly http: boolean },
  { connectionPool }: PortPolicy,
) {
  const { http, tcp } = connectionPool ?? {};
  const upgraded = (understood || isHttp(port.protocol)) && http?.h2UpgradePolicy === "UPGRADE";
  return httpProtocols({
    speak:
      (port.protocol === "unset" && !upgraded) || http?.useClientProtocol
        ? "downstream"
        : isHttp2(port.protocol) || upgraded
          ? "http2"
          : "http1",
    maxRequestsPerConnection: http?.maxRequestsPerConnection,
    maxConcurrentStreams: http?.maxConcurrentStreams,
    idleTimeoutMs: http?.idleTimeout,
    maxDurationMs: tcp?.maxConnectionDuration,
  });
}
