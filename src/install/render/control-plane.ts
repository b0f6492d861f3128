import { cacertsSecret, dnsService, labelsOf, ports, revisionLabel, revisionNames } from "../names.ts";
import { imagesOf } from "../settings/read.ts";
import type { Settings } from "../settings/settings.ts";
import { filled, type Manifest } from "./object.ts";
import { fieldEnv, lockedDown, placement, podSecurity, pullSecrets, resourcesOf } from "./pod.ts";

/** By which Services and disruption budgets find the pods of a revision. */
export function controlPlaneSelector(revision: string) {
  return { app: "isthmus", [revisionLabel]: revision };
}

/** The control plane of a revision: its account, Service, Deployment and disruption budget. */
export function controlPlaneObjects(settings: Settings): readonly Manifest[] {
  const { namespace, revision, controlPlane } = settings;
  const name = revisionNames(revision).controlPlane;
  const labels = { app: "isthmus", ...labelsOf("control-plane", revision) };
  const metadata = { name, namespace, labels };
  const matchLabels = controlPlaneSelector(revision);
  return [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata,
      ...pullSecrets(settings.imagePullSecrets),
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        selector: matchLabels,
        ports: [
          { name: "grpc-xds-tls", port: ports.discovery, targetPort: ports.discovery, protocol: "TCP" },
          { name: "https-webhook", port: 443, targetPort: ports.webhook, protocol: "TCP" },
          { name: "http-monitoring", port: ports.monitoring, targetPort: ports.monitoring, protocol: "TCP" },
        ],
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        replicas: controlPlane.replicas,
        selector: { matchLabels },
        // A new one is ready before an old one goes.
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        template: {
          metadata: {
            labels: { ...labels, "sidecar.istio.io/inject": "false" },
            annotations: {
              "prometheus.io/port": String(ports.monitoring),
              "prometheus.io/scrape": "true",
              "sidecar.istio.io/inject": "false",
            },
          },
          spec: podSpec(settings, name, matchLabels),
        },
      },
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata,
      // One at a time, however many there are. At least one of one would keep its node from ever being drained.
      spec: { maxUnavailable: 1, selector: { matchLabels } },
    },
  ];
}

function podSpec(settings: Settings, name: string, matchLabels: object): object {
  const { controlPlane, revision } = settings;
  const { injection } = revisionNames(revision);
  return {
    serviceAccountName: name,
    ...filled({ priorityClassName: controlPlane.priorityClassName }),
    securityContext: podSecurity,
    containers: [
      {
        name: "isthmus",
        image: imagesOf(settings).plain,
        imagePullPolicy: settings.imagePullPolicy,
        args: controlPlaneArgs(settings),
        env: [fieldEnv("POD_NAME", "metadata.name")],
        ports: [
          { name: "grpc-xds-tls", containerPort: ports.discovery, protocol: "TCP" },
          { name: "https-webhook", containerPort: ports.webhook, protocol: "TCP" },
          { name: "http-monitoring", containerPort: ports.monitoring, protocol: "TCP" },
          { name: "dns", containerPort: ports.dns, protocol: "UDP" },
          { name: "dns-tcp", containerPort: ports.dns, protocol: "TCP" },
        ],
        // Reading a large cluster for the first time takes its while.
        startupProbe: { httpGet: { path: "/live", port: ports.monitoring }, periodSeconds: 2, failureThreshold: 60 },
        readinessProbe: { httpGet: { path: "/ready", port: ports.monitoring }, periodSeconds: 3, timeoutSeconds: 5 },
        livenessProbe: {
          httpGet: { path: "/live", port: ports.monitoring },
          periodSeconds: 10,
          timeoutSeconds: 5,
          failureThreshold: 6,
        },
        ...filled({ resources: resourcesOf(controlPlane.resources) }),
        securityContext: lockedDown,
        terminationMessagePolicy: "FallbackToLogsOnError",
        volumeMounts: [
          { name: "cacerts", mountPath: "/etc/cacerts", readOnly: true },
          { name: "injection", mountPath: "/etc/isthmus", readOnly: true },
          { name: "tmp", mountPath: "/tmp" },
        ],
      },
    ],
    ...placement(controlPlane, matchLabels),
    volumes: [
      { name: "cacerts", secret: { secretName: cacertsSecret, defaultMode: 0o440 } },
      { name: "injection", configMap: { name: injection } },
      { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "64Mi" } },
    ],
  };
}

function controlPlaneArgs(settings: Settings): readonly string[] {
  const everywhere = (port: number) => `0.0.0.0:${port}`;
  const options: ReadonlyArray<readonly [string, string]> = [
    ["--cluster", settings.cluster],
    ["--revision", settings.revision],
    ["--cacerts", "/etc/cacerts"],
    ["--listen", everywhere(ports.discovery)],
    ["--plaintext", "off"],
    ["--dns", everywhere(ports.dns)],
    ["--webhooks", everywhere(ports.webhook)],
    ["--health", everywhere(ports.monitoring)],
    ["--admin", `127.0.0.1:${ports.admin}`],
    ["--injection", "/etc/isthmus/injection.json"],
    ["--pod", "$(POD_NAME)"],
    ["--system-namespace", settings.namespace],
    ["--trust-domain", settings.trustDomain],
    ["--cluster-domain", settings.clusterDomain],
    ["--outbound-policy", settings.outboundPolicy],
    ["--log-level", settings.logLevel],
    ...(settings.workloadCertTtl === "" ? [] : [["--workload-cert-ttl", settings.workloadCertTtl] as const]),
  ];
  const elsewhere = settings.gateways.secretNamespaces.filter((name) => name !== settings.namespace);
  return [
    "controlplane",
    "--in-cluster",
    ...options.flat(),
    ...(elsewhere.length > 0 ? ["--secret-namespaces", settings.namespace, ...elsewhere] : []),
    ...(settings.demoCertificates ? ["--demo"] : []),
  ];
}

/** Where the cluster's DNS sends names of the mesh. Its address stays when another revision answers. */
export function dnsObjects(settings: Settings): readonly Manifest[] {
  const { namespace, revision, dns } = settings;
  if (!dns.enabled) return [];
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: dnsService, namespace, labels: labelsOf("dns", revision) },
      spec: {
        ...filled({ clusterIP: dns.clusterIP }),
        selector: controlPlaneSelector(revision),
        ports: [
          { name: "dns", port: 53, targetPort: ports.dns, protocol: "UDP" },
          { name: "dns-tcp", port: 53, targetPort: ports.dns, protocol: "TCP" },
        ],
      },
    },
  ];
}
