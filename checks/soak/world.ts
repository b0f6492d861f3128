import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// The clusters of the soak: callers in both, an echo in both, and what can be said of it.

type Json = Record<string, unknown>;

function namespace(name: string): Json {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels: { "istio-injection": "enabled" } } };
}

function account(name: string, inNamespace: string): Json {
  return { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: inNamespace } };
}

function deployment(options: {
  readonly name: string;
  readonly namespace: string;
  readonly account: string;
  readonly labels: Json;
  readonly replicas: number;
  readonly container: Json;
}): readonly Json[] {
  const { name, namespace, account, labels, replicas, container } = options;
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { terminationGracePeriodSeconds: 8, serviceAccountName: account, containers: [{ name, ...container }] },
        },
      },
    },
  ];
}

function callerPod(name: string, inNamespace: string): readonly Json[] {
  const container = { image: "curlimages/curl", command: ["/bin/sleep", "3650d"] };
  const common = { name, namespace: inNamespace, account: name };
  return [account(name, inNamespace), ...deployment({ ...common, labels: { app: name }, replicas: 1, container })];
}

function echo(version: string, inNamespace: string, replicas: number): readonly Json[] {
  return deployment({
    name: `echo-${version}`,
    namespace: inNamespace,
    account: "echo",
    labels: { app: "echo", version },
    replicas,
    container: { image: "isthmus/echo", ports: [8000, 9000].map((containerPort) => ({ containerPort })) },
  });
}

const ports = [
  { name: "http", port: 8000 },
  { name: "tcp", port: 9000 },
];

function service(name: string, inNamespace: string, selector: Json): Json {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: inNamespace, labels: { app: "echo" } },
    spec: { selector, ports },
  };
}

/** Versions of the echo by label, as the server's cluster and local callers name them. */
function versions(host: string, inNamespace: string): Json {
  return {
    apiVersion: "networking.istio.io/v1beta1",
    kind: "DestinationRule",
    metadata: { name: `versions-${host.split(".").slice(0, 2).join("-")}`, namespace: inNamespace },
    spec: { host, subsets: ["v1", "v2"].map((version) => ({ name: version, labels: { version } })) },
  };
}

const clusters: Readonly<Record<string, readonly Json[]>> = {
  cluster1: [
    namespace("foo"),
    account("echo", "foo"),
    ...callerPod("sleep", "foo"),
    ...callerPod("caller", "foo"),
    ...echo("v1", "foo", 2),
    service("echo", "foo", { app: "echo" }),
  ],
  cluster2: [
    namespace("bar"),
    account("echo", "bar"),
    ...callerPod("back", "bar"),
    ...echo("v1", "bar", 2),
    ...echo("v2", "bar", 2),
    service("echo", "bar", { app: "echo" }),
    service("red", "bar", { app: "echo", version: "v1" }),
    service("blue", "bar", { app: "echo", version: "v2" }),
    versions("echo.bar.global", "bar"),
  ],
};

/** Writes the clusters as a lab's folder. */
export function writeWorld(dir: string): void {
  for (const [cluster, objects] of Object.entries(clusters)) {
    mkdirSync(join(dir, cluster), { recursive: true });
    writeFileSync(join(dir, cluster, "all.json"), JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  }
}

/** A service of the other cluster, at its gateway. */
export function remoteEntry(options: {
  readonly host: string;
  readonly namespace: string;
  readonly vip: string;
  readonly gateway: string;
  readonly label: string;
}): Json {
  const { host, vip, gateway, label } = options;
  return {
    apiVersion: "networking.istio.io/v1beta1",
    kind: "ServiceEntry",
    metadata: { name: host.split(".").slice(0, 2).join("-"), namespace: options.namespace },
    spec: {
      hosts: [host],
      location: "MESH_INTERNAL",
      resolution: "DNS",
      addresses: [vip],
      ports: [
        { name: "http1", number: 8000, protocol: "http" },
        { name: "tcp", number: 9000, protocol: "tcp" },
      ],
      endpoints: [{ address: gateway, labels: { cluster: label }, ports: { http1: 15443, tcp: 15443 } }],
    },
  };
}

/** How callers go about a remote host: its versions, and how connections to it are made. None of it says who answers. */
export function remotePolicy(options: {
  readonly host: string;
  readonly namespace: string;
  readonly label: string;
  readonly policy: Json;
  /** Of a host in the same cluster there are none to tell apart. */
  readonly subsets?: readonly string[];
}): Json {
  const { host, label, policy, subsets = ["v1", "v2"] } = options;
  return {
    apiVersion: "networking.istio.io/v1beta1",
    kind: "DestinationRule",
    metadata: { name: host.split(".").slice(0, 2).join("-"), namespace: options.namespace },
    spec: {
      host,
      trafficPolicy: { ...policy, tls: { mode: "ISTIO_MUTUAL" } },
      subsets: subsets.map((version) => ({ name: version, labels: { cluster: label } })),
    },
  };
}

/** What is tried again: everything that leaves it open whether it was answered, since the soak only reads. */
const retries = { attempts: 4, retryOn: "connect-failure,refused-stream,reset,gateway-error" };

export function routing(options: {
  readonly host: string;
  readonly namespace: string;
  readonly rules: readonly Json[];
}): Json {
  const { host, rules } = options;
  return {
    apiVersion: "networking.istio.io/v1beta1",
    kind: "VirtualService",
    metadata: { name: host.split(".").slice(0, 2).join("-"), namespace: options.namespace },
    spec: { hosts: [host], http: rules.map((rule) => ({ ...rule, retries })) },
  };
}
