import { type Component, egressName, ingressName, labelsOf, revisionNames, rootConfigMap } from "../names.ts";
import { imagesOf } from "../settings/read.ts";
import type { GatewaySettings, Settings } from "../settings/settings.ts";
import { filled, type Manifest } from "./object.ts";
import { fieldEnv, lockedDown, placement, podSecurity, pullSecrets, resourcesOf } from "./pod.ts";

export type GatewayRole = "ingress" | "egress";

/** What a gateway is called, and what selects it. */
export const gatewayNames = {
  ingress: { name: ingressName, istio: "ingressgateway", component: "ingress-gateway" },
  egress: { name: egressName, istio: "egressgateway", component: "egress-gateway" },
} as const satisfies Record<GatewayRole, { name: string; istio: string; component: Component }>;

/** Ports of a gateway's Service. The status port goes first: some load balancers look at the first one. */
export const gatewayPorts = [
  { name: "status-port", port: 15021, targetPort: 15021 },
  { name: "http2", port: 80, targetPort: 8080 },
  { name: "https", port: 443, targetPort: 8443 },
  { name: "tls", port: 15443, targetPort: 15443 },
] as const;

/** A gateway: its account, Service, Deployment, disruption budget, and autoscaler if asked for. It has no rights at all. */
export function gatewayObjects(settings: Settings, role: GatewayRole): readonly Manifest[] {
  const gateway = settings.gateways[role];
  if (!gateway.enabled) return [];
  const { name, istio, component } = gatewayNames[role];
  const { namespace, revision } = settings;
  const selector = { app: name, istio };
  const own = labelsOf(component, revision);
  const metadata = { name, namespace, labels: { ...selector, ...own } };
  const account = { name: `${name}-service-account`, namespace, labels: own };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: account, ...pullSecrets(settings.imagePullSecrets) },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { ...metadata, ...filled({ annotations: gateway.annotations }) },
      spec: {
        type: gateway.type,
        ...filled({
          loadBalancerIP: gateway.loadBalancerIP,
          loadBalancerSourceRanges: gateway.loadBalancerSourceRanges,
          externalTrafficPolicy: gateway.externalTrafficPolicy,
        }),
        selector,
        ports: gatewayPorts.map((port) => ({
          ...port,
          protocol: "TCP",
          ...(port.port === 15443 && gateway.nodePort !== 0 ? { nodePort: gateway.nodePort } : {}),
        })),
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        // Who scales by load must not be told a number at each installation.
        ...(gateway.autoscaling.enabled ? {} : { replicas: gateway.replicas }),
        selector: { matchLabels: selector },
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        template: {
          metadata: {
            labels: { ...selector, ...own, "sidecar.istio.io/inject": "false" },
            annotations: {
              "prometheus.io/path": "/stats/prometheus",
              "prometheus.io/port": "15020",
              "prometheus.io/scrape": "true",
              "sidecar.istio.io/inject": "false",
            },
          },
          spec: podSpec(settings, gateway, { role, selector }),
        },
      },
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata,
      spec: { maxUnavailable: 1, selector: { matchLabels: selector } },
    },
    ...(gateway.autoscaling.enabled ? [autoscaler(gateway, metadata)] : []),
  ];
}

function autoscaler({ autoscaling }: GatewaySettings, metadata: Manifest["metadata"]): Manifest {
  const { minReplicas, maxReplicas, cpuPercent } = autoscaling;
  const target = { type: "Utilization", averageUtilization: cpuPercent };
  return {
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata,
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: metadata.name },
      minReplicas,
      maxReplicas,
      metrics: [{ type: "Resource", resource: { name: "cpu", target } }],
    },
  };
}

function podSpec(
  settings: Settings,
  gateway: GatewaySettings,
  { role, selector }: { readonly role: GatewayRole; readonly selector: object },
): object {
  const images = imagesOf(settings);
  return {
    serviceAccountName: `${gatewayNames[role].name}-service-account`,
    // It asks the API server for nothing; what it needs is the token for our own control plane.
    automountServiceAccountToken: false,
    securityContext: podSecurity,
    terminationGracePeriodSeconds: 30,
    containers: [
      {
        name: "istio-proxy",
        image: settings.dataPlane === "envoy" ? images.envoy : images.plain,
        imagePullPolicy: settings.imagePullPolicy,
        args: gatewayArgs(settings, gateway),
        env: [
          fieldEnv("INSTANCE_IP", "status.podIP"),
          fieldEnv("POD_NAME", "metadata.name"),
          fieldEnv("POD_NAMESPACE", "metadata.namespace"),
          fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ],
        ports: [
          ...gatewayPorts.map(({ name, targetPort }) => ({ name, containerPort: targetPort, protocol: "TCP" })),
          { name: "http-metrics", containerPort: 15020, protocol: "TCP" },
        ],
        readinessProbe: {
          httpGet: { path: "/healthz/ready", port: 15021 },
          initialDelaySeconds: 1,
          periodSeconds: 2,
          failureThreshold: 30,
        },
        ...filled({ resources: resourcesOf(gateway.resources) }),
        securityContext: lockedDown,
        terminationMessagePolicy: "FallbackToLogsOnError",
        volumeMounts: [
          { name: "istio-root", mountPath: "/var/run/secrets/istio", readOnly: true },
          { name: "istio-token", mountPath: "/var/run/secrets/tokens", readOnly: true },
          { name: "istio-podinfo", mountPath: "/etc/istio/pod", readOnly: true },
          { name: "istio-data", mountPath: "/var/lib/istio/data" },
          { name: "istio-run", mountPath: "/var/run/isthmus" },
        ],
      },
    ],
    ...placement(gateway, selector),
    volumes: gatewayVolumes,
  };
}

const gatewayVolumes: readonly object[] = [
  { name: "istio-root", configMap: { name: rootConfigMap } },
  {
    name: "istio-token",
    projected: {
      sources: [{ serviceAccountToken: { audience: "istio-ca", expirationSeconds: 43_200, path: "istio-token" } }],
    },
  },
  {
    name: "istio-podinfo",
    downwardAPI: {
      items: [
        { path: "labels", fieldRef: { fieldPath: "metadata.labels" } },
        { path: "annotations", fieldRef: { fieldPath: "metadata.annotations" } },
      ],
    },
  },
  { name: "istio-data", emptyDir: { medium: "Memory" } },
  { name: "istio-run", emptyDir: { medium: "Memory" } },
];

function gatewayArgs(settings: Settings, gateway: GatewaySettings): readonly string[] {
  const service = `${revisionNames(settings.revision).controlPlane}.${settings.namespace}.svc`;
  const options: ReadonlyArray<readonly [string, string]> = [
    ["--type", "router"],
    ["--node-ip", "$(INSTANCE_IP)"],
    ["--pod", "$(POD_NAME)"],
    ["--namespace", "$(POD_NAMESPACE)"],
    ["--service-account", "$(SERVICE_ACCOUNT)"],
    ["--cluster", settings.cluster],
    ["--labels-file", "/etc/istio/pod/labels"],
    ["--discovery", `${service}:15012`],
    ["--server-name", service],
    ["--root-cert", "/var/run/secrets/istio/root-cert.pem"],
    ["--token", "/var/run/secrets/tokens/istio-token"],
    ["--trust-domain", settings.trustDomain],
    ["--cluster-domain", settings.clusterDomain],
    ["--admin-port", "15000"],
    ["--status", "0.0.0.0:15020"],
    ["--health", "0.0.0.0:15021"],
    ["--state", "/var/lib/istio/data"],
    ["--concurrency", String(gateway.concurrency)],
    ["--log-level", settings.logLevel],
    ...(settings.network === "" ? [] : [["--network", settings.network] as const]),
    ...(gateway.networkView === "" ? [] : [["--network-view", gateway.networkView] as const]),
    ...(settings.dataPlane === "envoy" ? [["--run-dir", "/var/run/isthmus"] as const] : []),
  ];
  return [settings.dataPlane === "envoy" ? "agent" : "proxy", ...options.flat()];
}
