import type { Hostname, Labels, Locality, Origin, SortedMap } from "../values/index.ts";
import type { Finding } from "./finding.ts";
import type { ForwardPolicy } from "./gateway-topology.ts";
import type { GatewayServer } from "./gateways.ts";
import type { RuleBook } from "./rules.ts";
import type { TlsSecret } from "./secrets.ts";
import type { Service } from "./service.ts";
import type { VirtualRoutes } from "./virtual-services.ts";

/** What holds for the whole mesh of one cluster. */
export interface MeshSettings {
  /** Name of this cluster. */
  readonly cluster: string;
  readonly trustDomain: string;
  /** Namespace of the control plane and the gateways; its DestinationRules are everybody's fallback. */
  readonly systemNamespace: string;
  readonly clusterDomain: string;
  /** Namespaces in which the cluster's Secrets are read; undefined for all. */
  readonly secretNamespaces: readonly string[] | undefined;
  /** What happens to calls for hosts that nobody declared. */
  readonly outboundPolicy: "ALLOW_ANY" | "REGISTRY_ONLY";
  readonly connectTimeoutMs: number;
  /** How long an outbound port without a declared protocol waits for the first bytes. */
  readonly detectionTimeoutMs: number;
  /** How often DNS names of endpoints are asked for again, when their TTL does not say. */
  readonly dnsRefreshMs: number;
}

export const defaultMeshSettings: Omit<MeshSettings, "cluster"> = Object.freeze({
  trustDomain: "cluster.local",
  systemNamespace: "isthmus-system",
  clusterDomain: "cluster.local",
  secretNamespaces: undefined,
  outboundPolicy: "ALLOW_ANY",
  connectTimeoutMs: 10_000,
  detectionTimeoutMs: 100,
  dnsRefreshMs: 5_000,
});

/** A process that runs in this cluster. */
export interface Workload {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly serviceAccount: string;
  /** Where it runs: what its own label says, else where its machine stands. */
  readonly locality: Locality;
  readonly ips: readonly string[];
  /** Named container ports. */
  readonly ports: Readonly<Record<string, number>>;
  /** What it makes of `x-forwarded-client-cert` where it is a gateway; undefined: it takes what came out and says its own. */
  readonly forwardPolicy?: ForwardPolicy | undefined;
  readonly origin: Origin;
}

/** Everything believed at one moment. Frozen; what did not change since the mesh before is the same object. */
export interface Mesh {
  readonly settings: MeshSettings;
  /** The one service of each host that wins where several claim it, in order of host name. */
  readonly services: SortedMap<Hostname, Service>;
  /** Hosts that several namespaces declare: all of them, oldest first. */
  readonly contested: SortedMap<Hostname, readonly Service[]>;
  /** The services that not everybody sees. */
  readonly restricted: SortedMap<Hostname, Service>;
  /** The services that stand for another name. */
  readonly aliases: SortedMap<Hostname, Service>;
  /** By `namespace/host`, those of contested hosts too. */
  readonly owned: SortedMap<string, Service>;
  readonly rules: RuleBook;
  /** Oldest first. */
  readonly virtualServices: readonly VirtualRoutes[];
  /** Oldest first. */
  readonly gateways: readonly GatewayServer[];
  /** By `namespace/name`. */
  readonly workloads: SortedMap<string, Workload>;
  /** What gateways show and believe, by `namespace/name`. */
  readonly secrets: SortedMap<string, TlsSecret>;
  readonly findings: readonly Finding[];
}
