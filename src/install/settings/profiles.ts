import { overlay } from "./field.ts";
import type { GatewaySettings, ProfileName, Settings } from "./settings.ts";

const nowhereSpecial = { nodeSelector: {}, tolerations: [], affinity: {} } as const;

const gateway: GatewaySettings = {
  enabled: false,
  type: "ClusterIP",
  annotations: {},
  loadBalancerIP: "",
  loadBalancerSourceRanges: [],
  externalTrafficPolicy: "",
  nodePort: 0,
  replicas: 1,
  networkView: "",
  concurrency: 1,
  resources: { requests: { cpu: "100m", memory: "192Mi" }, limits: { memory: "1Gi" } },
  autoscaling: { enabled: false, minReplicas: 1, maxReplicas: 5, cpuPercent: 80 },
  ...nowhereSpecial,
};

/** Profile `default`: a control plane of two replicas, an injector, and an ingress gateway. */
function base(version: string): Settings {
  return {
    profile: "default",
    cluster: "",
    namespace: "isthmus-system",
    revision: "default",
    hub: "isthmus",
    tag: version,
    image: "",
    imagePullPolicy: "IfNotPresent",
    imagePullSecrets: [],
    dataPlane: "embedded",
    trustDomain: "cluster.local",
    clusterDomain: "cluster.local",
    network: "",
    outboundPolicy: "ALLOW_ANY",
    logLevel: "info",
    workloadCertTtl: "",
    dns: { enabled: false, searchDomains: [], clusterIP: "" },
    multicluster: { enabled: false },
    demoCertificates: false,
    controlPlane: {
      replicas: 2,
      resources: { requests: { cpu: "200m", memory: "256Mi" }, limits: { memory: "2Gi" } },
      priorityClassName: "",
      ...nowhereSpecial,
    },
    gateways: {
      ingress: { ...gateway, enabled: true, type: "LoadBalancer" },
      egress: gateway,
      secretNamespaces: [],
    },
    injection: {
      enabled: true,
      failurePolicy: "Fail",
      timeoutSeconds: 10,
      dnsCapture: true,
      nativeSidecars: "auto",
      resources: {
        proxy: { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "1Gi" } },
        init: { requests: { cpu: "10m", memory: "64Mi" }, limits: { memory: "256Mi" } },
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
    },
    validation: { enabled: true, timeoutSeconds: 10 },
  };
}

const multicluster = {
  dns: { enabled: true, searchDomains: ["global"] },
  multicluster: { enabled: true },
  gateways: { egress: { enabled: true, networkView: "external" } },
};
const small = { requests: { cpu: "10m", memory: "64Mi" }, limits: {} };

/** What each profile says beside `default`. */
const profiles: Readonly<Record<ProfileName, object>> = {
  default: {},
  "multicluster-gateways": multicluster,
  minimal: { gateways: { ingress: { enabled: false } } },
  demo: overlay(multicluster, {
    demoCertificates: true,
    controlPlane: { replicas: 1, resources: small },
    gateways: { ingress: { resources: small }, egress: { resources: small } },
  }) as object,
};

/** The settings that a profile stands for. `version` is the image's tag unless told otherwise. */
export function profileSettings(profile: ProfileName, version: string): Settings {
  const limits = profile === "demo" ? withoutLimits(base(version)) : base(version);
  return { ...(overlay(limits, profiles[profile]) as Settings), profile };
}

/** Mappings add up, so what a profile does not want is taken out before. */
function withoutLimits(settings: Settings): Settings {
  const { controlPlane, gateways } = settings;
  const bare = <T extends { readonly resources: object }>(part: T) => ({ ...part, resources: small });
  return {
    ...settings,
    controlPlane: bare(controlPlane),
    gateways: { ...gateways, ingress: bare(gateways.ingress), egress: bare(gateways.egress) },
  };
}
