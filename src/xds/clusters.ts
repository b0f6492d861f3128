import {
  cached,
  isGlobal,
  type MergedRule,
  type MeshSettings,
  type Service,
  type ServicePort,
  type Subset,
} from "../model/index.ts";
import { Cluster_DiscoveryType, ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Versioned } from "../proto/index.ts";
import { clusterName, isHttp, outbound, sniName } from "../values/index.ts";
import { announcing } from "./announce.ts";
import { type Client, clusterKey } from "./client.ts";
import { balancing, commonBalancing, pools, protocolOptions } from "./cluster-policy.ts";
import { protection } from "./cluster-tls.ts";
import { dnsDiscovery } from "./dns-discovery.ts";
import { versioned } from "./encode.ts";
import { answering, endpointsFor, loadAssignment } from "./endpoints.ts";
import { isAsked, questionOf } from "./health-checks.ts";
import { layoutFor } from "./locality.ts";
import { type PortPolicy, policyFor } from "./policy.ts";
import { type Fields, fromAds, milliseconds } from "./typed.ts";

/** A cluster, and its endpoints when they are told separately. */
export interface MadeCluster {
  readonly cluster: Versioned;
  readonly endpoints: Versioned | undefined;
  /** The Secret that it needs to speak TLS. */
  readonly credential: string | undefined;
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
  const key = clusterKey(client, rule);
  const byKey = cached(memory[form], service, () => new Map<string, Remembered>());
  const known = byKey.get(key);
  if (known && known.rule === rule && known.settings === settings) return known.made;
  const made: MadeCluster[] = [];
  for (const port of service.ports) {
    if (port.protocol === "udp") continue;
    for (const subset of [undefined, ...(rule?.subsets ?? [])])
      for (const http of form === "own-traffic" ? spokenOn(port) : [false])
        made.push(makeCluster({ service, port, subset, http, rule, client, settings, form }));
  }
  byKey.set(key, { rule, settings, made });
  return made;
}

/** The names of the clusters that a service has under a rule. */
export function clusterNamesOf(service: Service, rule: MergedRule | undefined): readonly string[] {
  const subsets = ["", ...(rule?.subsets ?? []).map((one) => one.name)];
  return service.ports
    .filter((port) => port.protocol !== "udp")
    .flatMap((port) =>
      subsets.flatMap((subset) => spokenOn(port).map((http) => clusterName(named(service, { port, subset, http })))),
    );
}

/**
 * A port of undeclared protocol has two clusters. They say the same but for what a ClientHello tells the server: there
 * it decides whether requests are looked at, and by then this end knows.
 */
const spokenOn = ({ protocol }: ServicePort): readonly boolean[] => (protocol === "unset" ? [false, true] : [false]);

function named(
  { hostname }: Service,
  { port, subset, http }: { readonly port: ServicePort; readonly subset: string; readonly http: boolean },
) {
  const traffic = outbound(hostname, port.number, subset);
  return http ? { ...traffic, http } : traffic;
}

interface ClusterParts {
  readonly service: Service;
  readonly port: ServicePort;
  readonly subset: Subset | undefined;
  /** For what was understood as HTTP at a port of undeclared protocol. */
  readonly http: boolean;
  readonly rule: MergedRule | undefined;
  readonly client: Client;
  readonly settings: MeshSettings;
  readonly form: ClusterForm;
}

function makeCluster(parts: ClusterParts): MadeCluster {
  const { service, port, subset, http, rule, client, settings, form } = parts;
  const traffic = named(service, { port, subset: subset?.name ?? "", http });
  const spoken: ServicePort = http ? { ...port, protocol: "http" } : port;
  const name = form === "passed-on" ? sniName(traffic) : clusterName(traffic);
  const policy = policyFor(rule, port.number, subset);
  const seen = endpointsFor(service, { port, subset, networks: client.networks });
  // What is passed on unopened is TLS, so only who can take it may get it. Endpoints of another cluster are gateways.
  const endpoints = form === "passed-on" && !isGlobal(service.hostname) ? seen.filter((one) => one.mutualTls) : seen;
  const found = discovery(parts, policy);
  const origins = rule ? [...service.origins, ...rule.origins] : service.origins;
  const layout = layoutFor(policy, client);
  // Where nothing is encrypted here, only a connection can be asked for; and who picks endpoints itself asks nobody.
  const checked =
    isAsked(policy.healthCheck, spoken) &&
    found !== Cluster_DiscoveryType.ORIGINAL_DST &&
    (form === "own-traffic" || policy.healthCheck.tcp !== undefined);
  const assignment = loadAssignment(name, { endpoints, port: port.number, layout });
  const message: Fields<typeof ClusterSchema> = {
    name,
    ...(found === Cluster_DiscoveryType.STRICT_DNS || found === Cluster_DiscoveryType.LOGICAL_DNS
      ? dnsDiscovery(assignment, { logical: found === Cluster_DiscoveryType.LOGICAL_DNS, settings })
      : { clusterDiscoveryType: { case: "type", value: found } }),
    connectTimeout: milliseconds(policy.connectionPool?.tcp?.connectTimeout ?? settings.connectTimeoutMs),
    ...(found === Cluster_DiscoveryType.EDS ? { edsClusterConfig: { edsConfig: fromAds, serviceName: name } } : {}),
    ...leavesBy(parts),
    ...balancing(policy, found),
    ...commonBalancing(policy, { layout, checked }),
    ...pools(policy),
    ...(checked ? { healthChecks: [questionOf(policy.healthCheck!, { port: spoken, host: service.hostname })] } : {}),
    ...(form === "passed-on" ? {} : { typedExtensionProtocolOptions: protocolOptions({ port, http }, policy) }),
    ...(form === "passed-on"
      ? {}
      : announcing(
          protection({
            service,
            port: spoken,
            subset,
            settings,
            policy,
            endpoints: answering(service, { port, subset, networks: client.networks }),
            discovery: found,
          }),
          policy.proxyProtocol?.version,
        )),
  };
  return {
    credential: form === "passed-on" ? undefined : policy.tls?.credentialName,
    cluster: versioned(ClusterSchema, { name, message, origins }),
    endpoints:
      found === Cluster_DiscoveryType.EDS
        ? versioned(ClusterLoadAssignmentSchema, { name, message: assignment, origins: service.origins })
        : undefined,
  };
}

/** The egress gateway between, for the access log: where there is nobody to connect to, it is the one that is away. */
function leavesBy({ service, client }: ClusterParts): Fields<typeof ClusterSchema> {
  if (!service.egress || !client.networks.has("")) return {};
  return { metadata: { filterMetadata: { isthmus: { leaves_by: service.egress.gateway } } } };
}

function discovery({ service, port, client }: ClusterParts, policy: PortPolicy): Cluster_DiscoveryType {
  if (policy.loadBalancer?.simple === "PASSTHROUGH" && client.role === "sidecar")
    return Cluster_DiscoveryType.ORIGINAL_DST;
  // The gateway's pods are told by address, however those behind it are found.
  if (service.egress?.by === "annotation" && client.networks.has("")) return Cluster_DiscoveryType.EDS;
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
