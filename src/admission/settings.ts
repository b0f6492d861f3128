import type { LogLevel } from "../base/index.ts";

/** What is put into pods, for one revision of one cluster: the content of the ConfigMap `isthmus-injection`. */
export interface InjectionSettings {
  /** Form of the file. */
  readonly version: 1;
  /** Registry and folder of the image, without a slash at the end; empty for none. */
  readonly hub: string;
  /** Name of the image; one that holds `/`, `:` or `@` is the whole reference, and hub and tag do not count. */
  readonly image: string;
  readonly tag: string;
  /** The cluster's own choice when null. */
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never" | null;
  /** Names of Secrets, added to what the pod has. */
  readonly imagePullSecrets: readonly string[];
  readonly dataPlane: DataPlane;
  readonly cluster: string;
  readonly revision: string;
  /** `host:port` of the control plane. */
  readonly discovery: string;
  readonly trustDomain: string;
  readonly systemNamespace: string;
  readonly clusterDomain: string;
  /** Of all pods of the cluster; null for none. */
  readonly network: string | null;
  /** Added to what the pod searches. */
  readonly searchDomains: readonly string[];
  /** Whether the proxy answers the pod's DNS. */
  readonly dnsCapture: boolean;
  readonly nativeSidecars: NativeSidecars;
  readonly resources: { readonly proxy: Resources; readonly init: Resources };
  readonly proxyLogLevel: LogLevel;
  /** Workers of the proxy; 0 for one a core. */
  readonly concurrency: number;
  /** Whether applications start only when the proxy is ready. Native sidecars always see to it. */
  readonly holdApplication: boolean;
  readonly rewriteProbes: boolean;
  /** How long running calls may take when the pod stops. */
  readonly drainSeconds: number;
  /** What happens to a pod about which nothing else decides. */
  readonly policy: "enabled" | "disabled";
  readonly neverInjectSelector: readonly LabelSelector[];
  readonly alwaysInjectSelector: readonly LabelSelector[];
  /** What is captured in pods that say nothing of it. */
  readonly capture: CaptureSettings;
  /** Environment of the proxy, beside what it needs. */
  readonly env: Readonly<Record<string, string>>;
}

export type DataPlane = "embedded" | "envoy";
/** `auto`: where the API server is 1.29 or newer, so that every kubelet that it may have knows them. */
export type NativeSidecars = "auto" | "always" | "never";

/** As Kubernetes writes it: quantities by name (`cpu`, `memory`, `ephemeral-storage`). */
export interface Resources {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

/** All of it must hold; an empty one selects everything. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly LabelRequirement[];
}

export interface LabelRequirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values?: readonly string[];
}

export interface CaptureSettings {
  /** Ranges that are captured on the way out: `["*"]` for all. */
  readonly includeOutboundIPRanges: readonly string[];
  readonly excludeOutboundIPRanges: readonly string[];
  readonly excludeOutboundPorts: readonly number[];
  readonly excludeInboundPorts: readonly number[];
}

/** What every installation must say; all else has a value that fits most. */
export type OwnSettings = Pick<InjectionSettings, "cluster" | "tag"> & Partial<Omit<InjectionSettings, "version">>;

/** The name of the revision's Service, and the one that its certificate has whatever way it is reached. */
export function controlPlaneName({
  systemNamespace,
  revision,
}: Pick<InjectionSettings, "systemNamespace" | "revision">): string {
  return `${revision === "default" ? "isthmus" : `isthmus-${revision}`}.${systemNamespace}.svc`;
}

/** The settings of an installation: its own, and for the rest those that fit most. */
export function defaultInjectionSettings(own: OwnSettings): InjectionSettings {
  const { systemNamespace = "isthmus-system", revision = "default" } = own;
  return {
    hub: "isthmus",
    image: "isthmus",
    imagePullPolicy: null,
    imagePullSecrets: [],
    dataPlane: "embedded",
    discovery: `${controlPlaneName({ systemNamespace, revision })}:15012`,
    trustDomain: "cluster.local",
    clusterDomain: "cluster.local",
    network: null,
    searchDomains: ["global"],
    dnsCapture: true,
    nativeSidecars: "auto",
    resources: {
      proxy: { requests: { cpu: "100m", memory: "128Mi" }, limits: { cpu: "2", memory: "1Gi" } },
      init: { requests: { cpu: "10m", memory: "64Mi" }, limits: { cpu: "1", memory: "256Mi" } },
    },
    proxyLogLevel: "info",
    concurrency: 1,
    holdApplication: false,
    rewriteProbes: true,
    drainSeconds: 10,
    policy: "enabled",
    neverInjectSelector: [],
    alwaysInjectSelector: [],
    capture: {
      includeOutboundIPRanges: ["*"],
      excludeOutboundIPRanges: [],
      excludeOutboundPorts: [],
      excludeInboundPorts: [],
    },
    env: {},
    ...own,
    systemNamespace,
    revision,
    version: 1,
  };
}

/** As it stands in the ConfigMap's key `injection.json`. */
export function writeInjectionSettings(settings: InjectionSettings): string {
  return `${JSON.stringify(settings, null, 2)}\n`;
}
