import type { InjectionSettings } from "../../admission/index.ts";
import { logLevels } from "../../base/index.ts";
import { flag, mapping, mappings, numbers, oneOf, type Shape, text, textMap, texts, whole } from "./field.ts";

export const profileNames = ["default", "multicluster-gateways", "minimal", "demo"] as const;
export type ProfileName = (typeof profileNames)[number];

/** Requests and limits of a container, as Kubernetes has them. */
export interface ResourceSettings {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

/** Where pods may run. */
export interface PlacementSettings {
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly object[];
  /** In place of our own, which prefers different nodes. */
  readonly affinity: Readonly<Record<string, unknown>>;
}

export interface GatewaySettings extends PlacementSettings {
  readonly enabled: boolean;
  readonly type: "LoadBalancer" | "NodePort" | "ClusterIP";
  /** Of the Service: what cloud providers read. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly loadBalancerIP: string;
  readonly loadBalancerSourceRanges: readonly string[];
  readonly externalTrafficPolicy: "" | "Cluster" | "Local";
  /** Node port of 15443; 0 lets the cluster choose. */
  readonly nodePort: number;
  readonly replicas: number;
  /** Networks whose endpoints it sees; empty for the usual ones. */
  readonly networkView: string;
  /** Processes that serve (embedded), threads (Envoy); 0 for one a core. */
  readonly concurrency: number;
  readonly resources: ResourceSettings;
  readonly autoscaling: {
    readonly enabled: boolean;
    readonly minReplicas: number;
    readonly maxReplicas: number;
    readonly cpuPercent: number;
  };
}

/** What people may say of injection; the rest of what the injector is told follows from the other settings. */
export type InjectionWishes = Pick<
  InjectionSettings,
  | "dnsCapture"
  | "nativeSidecars"
  | "resources"
  | "proxyLogLevel"
  | "concurrency"
  | "holdApplication"
  | "rewriteProbes"
  | "drainSeconds"
  | "policy"
  | "neverInjectSelector"
  | "alwaysInjectSelector"
  | "capture"
  | "env"
>;

/** All that an installation can be told. A missing text is the empty text. */
export interface Settings {
  readonly profile: ProfileName;
  /** Name of the cluster; empty: as its context calls it. */
  readonly cluster: string;
  readonly namespace: string;
  readonly revision: string;
  readonly hub: string;
  readonly tag: string;
  /** The whole reference, in place of hub and tag. */
  readonly image: string;
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never";
  readonly imagePullSecrets: readonly string[];
  readonly dataPlane: "embedded" | "envoy";
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly network: string;
  readonly outboundPolicy: "ALLOW_ANY" | "REGISTRY_ONLY";
  readonly logLevel: "error" | "warn" | "info" | "debug";
  /** Life of workload certificates; empty for the control plane's own choice. */
  readonly workloadCertTtl: string;
  readonly dns: {
    readonly enabled: boolean;
    /** Looked through by pods beside their own. */
    readonly searchDomains: readonly string[];
    /** Of Service isthmus-dns; empty lets the cluster choose. */
    readonly clusterIP: string;
  };
  readonly multicluster: { readonly enabled: boolean };
  /** Whether certificates that a demo made are taken, and made where there are none. */
  readonly demoCertificates: boolean;
  readonly controlPlane: PlacementSettings & {
    readonly replicas: number;
    readonly resources: ResourceSettings;
    readonly priorityClassName: string;
  };
  readonly gateways: {
    readonly ingress: GatewaySettings;
    readonly egress: GatewaySettings;
    /** Namespaces beside our own whose Secrets the control plane may read, because gateways run there. */
    readonly secretNamespaces: readonly string[];
  };
  readonly injection: InjectionWishes & {
    readonly enabled: boolean;
    readonly failurePolicy: "Fail" | "Ignore";
    readonly timeoutSeconds: number;
  };
  readonly validation: { readonly enabled: boolean; readonly timeoutSeconds: number };
}

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const orNothing = (pattern: RegExp) => new RegExp(`^$|${pattern.source}`);
const domain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const ip = /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*)$/;
const quantity = /^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/;
const quantities = textMap('a mapping of resources to amounts such as "100m" or "128Mi"', quantity);

const range = /^\*$|^[0-9a-fA-F.:]+(\/\d+)?$/;
const portList = numbers("ports", 1, 65535);

const resources: Shape<ResourceSettings> = { requests: quantities, limits: quantities };
const placement: Shape<PlacementSettings> = { nodeSelector: textMap(), tolerations: mappings, affinity: mapping };
const gateway: Shape<GatewaySettings> = {
  enabled: flag,
  type: oneOf(["LoadBalancer", "NodePort", "ClusterIP"]),
  annotations: textMap(),
  loadBalancerIP: text("an IP address", orNothing(ip)),
  loadBalancerSourceRanges: texts("ranges of addresses", /^[0-9a-fA-F.:]+\/\d+$/),
  externalTrafficPolicy: oneOf(["", "Cluster", "Local"]),
  nodePort: whole(0, 65535),
  replicas: whole(1, 1000),
  networkView: text("names of networks, with commas between", /^[-A-Za-z0-9._,]*$/),
  concurrency: whole(0, 1024),
  resources,
  autoscaling: { enabled: flag, minReplicas: whole(1, 1000), maxReplicas: whole(1, 1000), cpuPercent: whole(1, 1000) },
  ...placement,
};

export const settingsShape: Shape<Settings> = {
  profile: oneOf(profileNames),
  cluster: text(
    "a cluster's name: letters, digits, dash and dot, at most 58",
    orNothing(/^[A-Za-z0-9]([-A-Za-z0-9._]{0,56}[A-Za-z0-9])?$/),
  ),
  namespace: text("lower case letters, digits and dashes", label),
  // `isthmus-sidecar-injector-<revision>` must be a name as well.
  revision: text("lower case letters, digits and dashes, at most 30", /^[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?$/),
  hub: text("a registry with a path, without a slash at the end", /^[^\s/]+(\/[^\s/]+)*$/),
  tag: text("an image's tag", /^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$/),
  // A bare name would be taken for one in the hub.
  image: text("an image's whole reference, with a slash, a colon or a digest", /^$|^\S*[/:@]\S*$/),
  imagePullPolicy: oneOf(["Always", "IfNotPresent", "Never"]),
  imagePullSecrets: texts("names of Secrets", domain),
  dataPlane: oneOf(["embedded", "envoy"]),
  trustDomain: text("a DNS name", domain),
  clusterDomain: text("a DNS name", domain),
  network: text("a network's name", /^[-A-Za-z0-9._]*$/),
  outboundPolicy: oneOf(["ALLOW_ANY", "REGISTRY_ONLY"]),
  logLevel: oneOf(["error", "warn", "info", "debug"]),
  workloadCertTtl: text("a duration such as 24h", /^$|^([0-9]+(ms|s|m|h|d))+$/),
  dns: {
    enabled: flag,
    searchDomains: texts("DNS names", domain),
    clusterIP: text("an IP address", orNothing(ip)),
  },
  multicluster: { enabled: flag },
  demoCertificates: flag,
  controlPlane: {
    replicas: whole(1, 100),
    resources,
    priorityClassName: text("a name", orNothing(domain)),
    ...placement,
  },
  gateways: { ingress: gateway, egress: gateway, secretNamespaces: texts("names of namespaces", label) },
  injection: {
    enabled: flag,
    failurePolicy: oneOf(["Fail", "Ignore"]),
    timeoutSeconds: whole(1, 30),
    dnsCapture: flag,
    nativeSidecars: oneOf(["auto", "always", "never"]),
    resources: { proxy: resources, init: resources },
    proxyLogLevel: oneOf(logLevels),
    concurrency: whole(0, 1024),
    holdApplication: flag,
    rewriteProbes: flag,
    drainSeconds: whole(0, 86_400),
    policy: oneOf(["enabled", "disabled"]),
    neverInjectSelector: mappings,
    alwaysInjectSelector: mappings,
    capture: {
      includeOutboundIPRanges: texts('ranges of addresses, or "*"', range),
      excludeOutboundIPRanges: texts("ranges of addresses", range),
      excludeOutboundPorts: portList,
      excludeInboundPorts: portList,
    },
    env: textMap(),
  },
  validation: { enabled: flag, timeoutSeconds: whole(1, 30) },
};
