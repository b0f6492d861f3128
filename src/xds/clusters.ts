import {
  cached,
  type Endpoint,
  isGlobal,
  type MergedRule,
  type MeshSettings,
  namespaceOfGlobal,
  type Service,
  type ServicePort,
  type Subset,
} from "../model/index.ts";
import {
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Versioned } from "../proto/index.ts";
import { clusterName, isHttp, isHttp2, outbound, sniName } from "../values/index.ts";
import type { Client } from "./client.ts";
import { versioned } from "./encode.ts";
import { endpointsFor, type Layout, loadAssignment } from "./endpoints.ts";
import { type PortPolicy, policyFor } from "./policy.ts";
import { httpProtocols } from "./protocol-options.ts";
import { meshAlpn, meshClientTls, plaintext, ruleClientTls, type ServerIdentity } from "./tls.ts";
import { type Fields, fromAds, milliseconds } from "./typed.ts";

/** A cluster, and its endpoints when they are told separately. */
export interface MadeCluster {
  readonly cluster: Versioned;
  readonly endpoints: Versioned | undefined;
}

/** Whether a gateway passes TLS on unopened (then the cluster has no TLS of its own), or a proxy speaks for its workload. */
export type ClusterForm = "own-traffic" | "passed-on";

interface Remembered {
  readonly rule: MergedRule | undefined;
  readonly settings: MeshSettings;
  readonly made: readonly MadeCluster[];
}

const memory: Readonly<Record<ClusterForm, WeakMap<Service, Map<string, Remembered>>>> = {
  "own-traffic": new WeakMap(),
  "passed-on": new WeakMap(),
};

/** All clusters of a service for one client: one a port and subset. The same objects as long as nothing of it changed. */
export function clustersOf(
  service: Service,
  options: {
    readonly rule: MergedRule | undefined;
    readonly client: Client;
    readonly settings: MeshSettings;
    readonly form: ClusterForm;
  },
): readonly MadeCluster[] {
  const { rule, client, settings, form } = options;
  // Only a rule that ejects endpoints makes the client's place matter.
  const key = ejects(rule) ? client.clusterKeys.here : client.clusterKeys.anywhere;
  const byKey = cached(memory[form], service, () => new Map<string, Remembered>());
  const known = byKey.get(key);
  if (known && known.rule === rule && known.settings === settings) return known.made;
  const made: MadeCluster[] = [];
  for (const port of service.ports) {
    if (port.protocol === "udp") continue;
    made.push(makeCluster({ service, port, subset: undefined, rule, client, settings, form }));
    for (const subset of rule?.subsets ?? [])
      made.push(makeCluster({ service, port, subset, rule, client, settings, form }));
  }
  byKey.set(key, { rule, settings, made });
  return made;
}

function ejects(rule: MergedRule | undefined): boolean {
  if (!rule) return false;
  const says = (policy: MergedRule["policy"]) =>
    policy?.outlierDetection !== undefined ||
    policy?.portLevelSettings.some((one) => one.outlierDetection !== undefined) === true;
  return says(rule.policy) || rule.subsets.some((subset) => says(subset.policy));
}

interface ClusterParts {
  readonly service: Service;
  readonly port: ServicePort;
  readonly subset: Subset | undefined;
  readonly rule: MergedRule | undefined;
  readonly client: Client;
  readonly settings: MeshSettings;
  readonly form: ClusterForm;
}

function makeCluster(parts: ClusterParts): MadeCluster {
  const { service, port, subset, rule, client, settings, form } = parts;
  const traffic = outbound(service.hostname, port.number, subset?.name ?? "");
  const name = form === "passed-on" ? sniName(traffic) : clusterName(traffic);
  const policy = policyFor(rule, port.number, subset);
  const seen = endpointsFor(service, { port, subset, networks: client.networks });
  // What is passed on unopened is TLS, so only who can take it may get it. Endpoints of another cluster are gateways.
  const endpoints = form === "passed-on" && !isGlobal(service.hostname) ? seen.filter((one) => one.mutualTls) : seen;
  const found = discovery(parts, policy);
  const origins = rule ? [...service.origins, ...rule.origins] : service.origins;
  const layout: Layout =
    policy.outlierDetection && policy.loadBalancer?.localityLbSetting?.enabled !== false
      ? { kind: "near-first", from: client.locality }
      : { kind: "flat" };
  const assignment = loadAssignment(name, { endpoints, port: port.number, layout });
  const message: Fields<typeof ClusterSchema> = {
    name,
    clusterDiscoveryType: { case: "type", value: found },
    connectTimeout: milliseconds(policy.connectionPool?.tcp?.connectTimeout ?? settings.connectTimeoutMs),
    ...(found === Cluster_DiscoveryType.EDS ? { edsClusterConfig: { edsConfig: fromAds, serviceName: name } } : {}),
    ...(found === Cluster_DiscoveryType.STRICT_DNS || found === Cluster_DiscoveryType.LOGICAL_DNS
      ? {
          loadAssignment: assignment,
          dnsLookupFamily: Cluster_DnsLookupFamily.V4_PREFERRED,
          dnsRefreshRate: milliseconds(settings.dnsRefreshMs),
          respectDnsTtl: true,
        }
      : {}),
    ...balancing(policy, found),
    ...pools(policy),
    ...(form === "passed-on" ? {} : { typedExtensionProtocolOptions: protocolOptions(port, policy) }),
    ...(form === "passed-on" ? {} : protection(parts, { policy, endpoints, discovery: found })),
  };
  return {
    cluster: versioned(ClusterSchema, { name, message, origins }),
    endpoints:
      found === Cluster_DiscoveryType.EDS
        ? versioned(ClusterLoadAssignmentSchema, { name, message: assignment, origins: service.origins })
        : undefined,
  };
}

function discovery({ service, port, client }: ClusterParts, policy: PortPolicy): Cluster_DiscoveryType {
  if (policy.loadBalancer?.simple === "PASSTHROUGH" && client.role === "sidecar")
    return Cluster_DiscoveryType.ORIGINAL_DST;
  switch (service.resolution) {
    case "told":
      return Cluster_DiscoveryType.EDS;
    case "dns":
      return Cluster_DiscoveryType.STRICT_DNS;
    case "dns-round-robin":
      // A name without an endpoint cannot be logical: there must be exactly one to resolve.
      return service.endpoints.length === 1 ? Cluster_DiscoveryType.LOGICAL_DNS : Cluster_DiscoveryType.STRICT_DNS;
    case "passthrough":
      // Callers of a headless service choose the pod themselves; with HTTP any pod may answer any request.
      return client.role === "sidecar" && !(service.headless && isHttp(port.protocol))
        ? Cluster_DiscoveryType.ORIGINAL_DST
        : Cluster_DiscoveryType.EDS;
  }
}

function balancing(policy: PortPolicy, found: Cluster_DiscoveryType): Fields<typeof ClusterSchema> {
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

function pools({ connectionPool, outlierDetection }: PortPolicy): Fields<typeof ClusterSchema> {
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

function protocolOptions(port: ServicePort, { connectionPool }: PortPolicy) {
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

/** TLS towards the service: the mesh's own, what a rule asks for, or none. */
function protection(
  parts: ClusterParts,
  facts: {
    readonly policy: PortPolicy;
    readonly endpoints: readonly Endpoint[];
    readonly discovery: Cluster_DiscoveryType;
  },
): Fields<typeof ClusterSchema> {
  const { service, port, subset, settings } = parts;
  const { tls } = facts.policy;
  const mesh = () =>
    meshClientTls({
      sni: tls?.sni ?? sniName(outbound(service.hostname, port.number, subset?.name ?? "")),
      server: serverOf(service, { names: tls?.subjectAltNames ?? [], endpoints: facts.endpoints, settings }),
      alpn: meshAlpn(port.protocol),
    });
  if (tls?.mode === "ISTIO_MUTUAL") return { transportSocket: mesh() };
  if (tls?.mode === "DISABLE") return {};
  if (tls)
    return {
      transportSocket: ruleClientTls({
        sni: tls.sni ?? (tls.mode === "SIMPLE" ? service.hostname : undefined),
        certificate: tls.mode === "MUTUAL" ? tls.clientCertificate : undefined,
        key: tls.mode === "MUTUAL" ? tls.privateKey : undefined,
        roots: tls.caCertificates,
        names: tls.subjectAltNames.length > 0 ? tls.subjectAltNames : service.subjectAltNames,
        alpn: isHttp2(port.protocol) ? ["h2"] : [],
      }),
    };
  if (service.location === "external") return {};
  // Silence is no permission: what another cluster answers for is mutual TLS unless a rule says otherwise.
  if (isGlobal(service.hostname)) return { transportSocket: mesh() };
  if (facts.discovery === Cluster_DiscoveryType.ORIGINAL_DST) {
    // Where the caller picks the endpoint there is nothing to match it with: all of them must understand.
    const all = facts.endpoints.length > 0 && facts.endpoints.every((one) => one.mutualTls);
    return all ? { transportSocket: mesh() } : {};
  }
  return {
    transportSocketMatches: [
      { name: "tlsMode-istio", match: { tlsMode: "istio" }, transportSocket: mesh() },
      { name: "tlsMode-disabled", match: {}, transportSocket: plaintext() },
    ],
  };
}

/** Who may answer: those whom the author names; else the accounts of the endpoints; else anybody of the right namespace. */
export function serverOf(
  service: Service,
  options: {
    readonly names: readonly string[];
    readonly endpoints: readonly Endpoint[];
    readonly settings: MeshSettings;
  },
): ServerIdentity {
  const { names, endpoints, settings } = options;
  if (names.length > 0) return { kind: "one-of", names };
  if (service.subjectAltNames.length > 0) return { kind: "one-of", names: service.subjectAltNames };
  const speaking = isGlobal(service.hostname) ? endpoints : endpoints.filter((one) => one.mutualTls);
  const accounts = new Set(speaking.map((one) => one.identity));
  if (speaking.length > 0 && !accounts.has(undefined))
    return { kind: "one-of", names: ([...accounts] as string[]).sort() };
  const namespace = isGlobal(service.hostname) ? namespaceOfGlobal(service.hostname) : service.namespace;
  const domain = `spiffe://${settings.trustDomain}/ns/`;
  return { kind: "begins", prefix: namespace === undefined ? domain : `${domain}${namespace}/` };
}
