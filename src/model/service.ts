import type { Cidr, Hostname, Ip, Labels, Locality, Origin, Protocol, SpiffeId } from "../values/index.ts";

/** One port that callers see. */
export interface ServicePort {
  readonly name: string;
  /** What is called. */
  readonly number: number;
  /** What a workload listens on, where no endpoint says it more exactly. */
  readonly targetPort: number;
  readonly protocol: Protocol;
}

/** One address that answers. */
export interface Endpoint {
  /** An IP, a DNS name (only in services that resolve by DNS), or `unix:///path`. */
  readonly address: string;
  /** Service port number to the port to connect to. A port that is missing here is not served by this endpoint. */
  readonly ports: Readonly<Record<number, number>>;
  readonly labels: Labels;
  readonly weight: number;
  readonly locality: Locality;
  /** Empty for the cluster's own network. */
  readonly network: string;
  readonly identity: SpiffeId | undefined;
  /** Whether a proxy that takes mesh TLS stands in front of the workload. */
  readonly mutualTls: boolean;
  /** `namespace/name` of the Pod or WorkloadEntry behind it, or empty. */
  readonly workload: string;
  /** The name that a headless Service gives this endpoint, or empty. */
  readonly hostname: string;
  /** Whether it is an egress gateway, which stands for the endpoints of a network that only it sees. */
  readonly egress: boolean;
}

/** By which egress gateway of this cluster calls leave. */
export interface Egress {
  /** `namespace/name` of its Service. */
  readonly gateway: string;
  /** Whether the gateway stands among the endpoints that people wrote, or was put there because an annotation asks for it. */
  readonly by: "endpoint" | "annotation";
  /** Why nothing can leave there; undefined when something can. */
  readonly problem: "no-service" | "no-port" | "not-ready" | undefined;
}

/** How a caller finds the endpoints: told by us, by asking DNS, or by where its connection was going anyway. */
export type Resolution = "told" | "dns" | "dns-round-robin" | "passthrough";

/** Who may see an object: everybody, nobody, or these namespaces. */
export type Visibility = "everyone" | "nobody" | ReadonlySet<string>;

/** A name that people call, whoever declared it. Frozen. */
export interface Service {
  readonly hostname: Hostname;
  readonly registry: "kubernetes" | "entry";
  /** Name and namespace of the object that declared it. */
  readonly name: string;
  readonly namespace: string;
  /** Internal services share our root of trust; external ones do not. */
  readonly location: "internal" | "external";
  readonly resolution: Resolution;
  /** Single addresses that callers connect to; owned by this service alone. */
  readonly addresses: readonly Ip[];
  /** Whether requests for a bare address mean this host: of the hosts of one entry that share addresses, the first. */
  readonly namedByAddress: boolean;
  /** Whole ranges: matched for TCP, not answered by DNS. */
  readonly ranges: readonly Cidr[];
  readonly headless: boolean;
  /** Another name that this one stands for (a Service of type ExternalName), or undefined. */
  readonly alias: Hostname | undefined;
  readonly ports: readonly ServicePort[];
  readonly endpoints: readonly Endpoint[];
  /** The egress gateway between callers and endpoints; undefined where calls go straight. */
  readonly egress: Egress | undefined;
  /** Identities that the author wants the server to have; empty: the mesh's own rule. */
  readonly subjectAltNames: readonly string[];
  /** Labels of the workloads behind it; undefined when endpoints are listed by hand. */
  readonly selector: Labels | undefined;
  readonly visibility: Visibility;
  /** Milliseconds since 1970; 0 when unknown. Older objects win. */
  readonly created: number;
  readonly origins: readonly Origin[];
}

/** Whether proxies of `namespace` may see what `owner` declared with this visibility. */
export function visibleTo(visibility: Visibility, namespace: string): boolean {
  return visibility === "everyone" || (visibility !== "nobody" && visibility.has(namespace));
}

/** The suffix of names that live in other clusters. */
export const globalSuffix = ".global";

/** Whether the name is one of another cluster: `<name>.<namespace>.global`. */
export function isGlobal(hostname: string): boolean {
  return hostname.endsWith(globalSuffix);
}

/** The namespace in `<name>.<namespace>.global`; undefined when the name has no such part (`*.global`). */
export function namespaceOfGlobal(hostname: string): string | undefined {
  const labels = hostname.split(".");
  const namespace = labels[labels.length - 2];
  return labels.length >= 3 && namespace !== undefined && namespace !== "*" ? namespace : undefined;
}
