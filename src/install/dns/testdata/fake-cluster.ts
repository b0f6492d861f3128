import { Readable } from "node:stream";
import { type KubeClient, type KubeObject, KubeRefusal, type KubeRequest, ObjectApi } from "../../../kube/index.ts";
import { FakeClock } from "../../../testing/index.ts";
import type { DnsDeps } from "../install.ts";

// A cluster in memory, as far as a DNS's installation looks at one: objects by path, writes guarded by their version.

const kinds: Readonly<Record<string, ReadonlyArray<readonly [plural: string, kind: string]>>> = {
  "/api/v1": [
    ["configmaps", "ConfigMap"],
    ["services", "Service"],
    ["pods", "Pod"],
  ],
  "/apis/apps/v1": [
    ["deployments", "Deployment"],
    ["daemonsets", "DaemonSet"],
  ],
  "/apis/discovery.k8s.io/v1": [["endpointslices", "EndpointSlice"]],
  "/apis/networking.k8s.io/v1": [["networkpolicies", "NetworkPolicy"]],
  "/apis/networking.istio.io/v1": [["serviceentries", "ServiceEntry"]],
};

type Mutable = Record<string, unknown> & { metadata: Record<string, unknown> };

export interface FakeCluster {
  readonly deps: DnsDeps;
  readonly requests: readonly string[];
  /** The object as it is; undefined when there is none. */
  get(kind: string, name: string): KubeObject | undefined;
  put(object: object): void;
  data(configMap: string): Readonly<Record<string, string>> | undefined;
  /** Called before a write is looked at: somebody else may be faster. */
  beforeWrite: (() => void) | undefined;
  /** What `pods/proxy` gives for the metrics of a pod. */
  metrics: ((pod: string) => string) | undefined;
}

export function fakeCluster(objects: readonly object[]): FakeCluster {
  const stored = new Map<string, Mutable>();
  const requests: string[] = [];
  let version = 1;
  const plurals = new Map(
    Object.values(kinds).flatMap((list) => list.map(([plural, kind]) => [kind, plural] as const)),
  );
  const keyOf = (plural: string, namespace: unknown, name: unknown) => `${plural}/${String(namespace)}/${String(name)}`;
  const put = (object: Mutable) => {
    const { kind, metadata } = object as Mutable & { kind: string };
    const saved = structuredClone(object);
    saved.metadata = { uid: `uid-${String(metadata["name"])}`, ...saved.metadata, resourceVersion: String(++version) };
    stored.set(keyOf(plurals.get(kind)!, metadata["namespace"], metadata["name"]), saved);
    return saved;
  };
  const refuse = (status: number, code: string) =>
    new KubeRefusal(code, `refused with ${status}`, { status, retryAfterMs: undefined });

  const cluster: FakeCluster = {
    requests,
    beforeWrite: undefined,
    metrics: undefined,
    get: (kind, name) =>
      stored.get(keyOf(plurals.get(kind)!, ...(name.split("/") as [string, string]))) as KubeObject | undefined,
    put: (object) => void put(object as Mutable),
    data: (name) => cluster.get("ConfigMap", name)?.["data"] as Readonly<Record<string, string>> | undefined,
    deps: undefined as never,
  };

  function answer({ method = "GET", path, query = {}, body }: KubeRequest): unknown {
    requests.push(`${method} ${path}`);
    const served = kinds[path];
    if (served) return { resources: served.map(([name, kind]) => ({ name, kind, namespaced: true, verbs: [] })) };
    const [, api = "", namespace, plural = "", name] =
      /^(\/.*?v1)(?:\/namespaces\/([^/]+))?\/([a-z]+)(?:\/([^/]+))?$/.exec(path) ?? [];
    if (!kinds[api]) throw refuse(404, "kube/not-found");
    if (method !== "GET") {
      const hook = cluster.beforeWrite;
      cluster.beforeWrite = undefined;
      hook?.();
    }
    const key = keyOf(plural, namespace, name);
    const old = stored.get(key);
    const written = (body ?? {}) as Mutable;
    if (method === "POST") {
      if (stored.has(keyOf(plural, namespace, written.metadata["name"]))) throw refuse(409, "kube/conflict");
      return put(written);
    }
    if (name === undefined) {
      const wanted = String(query["labelSelector"] ?? "")
        .split(",")
        .filter(Boolean)
        .map((one) => one.split("="));
      const items = [...stored].flatMap(([at, object]) => {
        const labels = (object.metadata["labels"] ?? {}) as Record<string, string>;
        const here = at.startsWith(namespace === undefined ? `${plural}/` : `${plural}/${namespace}/`);
        return here && wanted.every(([label, value]) => labels[label!] === value) ? [object] : [];
      });
      return { metadata: { resourceVersion: String(version) }, items };
    }
    if (method === "PATCH" && !old) return put(written);
    if (!old) throw refuse(404, "kube/not-found");
    if (method === "GET") return structuredClone(old);
    const expected =
      written.metadata?.["resourceVersion"] ??
      (written["preconditions"] as { resourceVersion?: string } | undefined)?.resourceVersion;
    if (expected !== undefined && expected !== old.metadata["resourceVersion"]) throw refuse(409, "kube/conflict");
    if (method === "DELETE") return void stored.delete(key);
    return put(merged(old, written) as Mutable);
  }

  const client: KubeClient = {
    access: { name: "fake", server: "http://fake" } as KubeClient["access"],
    json: async <T>(request: KubeRequest) => answer(request) as T,
    stream: async ({ path }) => {
      const pod = /\/pods\/([^:]+):\d+\/proxy\/metrics$/.exec(path)?.[1];
      if (pod === undefined || !cluster.metrics) throw refuse(503, "kube/server-error");
      return Readable.from([Buffer.from(cluster.metrics(pod))]) as never;
    },
  };
  const clock = new FakeClock();
  const api = new ObjectApi({ client, fieldManager: "isthmus", clock, random: () => 0.5 });
  Object.assign(cluster, { deps: { api, clock, random: () => 0, namespace: "isthmus-system" } });
  for (const object of objects) put(object as Mutable);
  return cluster;
}

/** As RFC 7386 has it. */
function merged(old: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const base = typeof old === "object" && old !== null ? { ...(old as Record<string, unknown>) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete base[key];
    else base[key] = merged(base[key], value);
  }
  return base;
}

const labels = { "k8s-app": "kube-dns" };
export const kubeadmCorefile = `.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    reload
}
`;

/** What a cluster of kubeadm has in kube-system, and the mesh's DNS. */
export function coreDnsCluster(
  over: {
    readonly image?: string;
    readonly corefile?: string;
    readonly labels?: object;
    readonly volumes?: readonly object[];
    readonly mounts?: readonly object[];
    readonly more?: readonly object[];
    readonly readiness?: object;
  } = {},
): FakeCluster {
  const { image = "registry.k8s.io/coredns/coredns:v1.11.1", corefile = kubeadmCorefile } = over;
  return fakeCluster([
    {
      kind: "Deployment",
      metadata: { name: "coredns", namespace: "kube-system", labels },
      spec: {
        replicas: 2,
        selector: { matchLabels: labels },
        template: {
          spec: {
            containers: [
              {
                name: "coredns",
                image,
                args: ["-conf", "/etc/coredns/Corefile"],
                volumeMounts: [{ name: "config-volume", mountPath: "/etc/coredns" }, ...(over.mounts ?? [])],
                ...(over.readiness ? { readinessProbe: over.readiness } : {}),
              },
            ],
            volumes: [
              { name: "config-volume", configMap: { name: "coredns", items: [{ key: "Corefile", path: "Corefile" }] } },
              ...(over.volumes ?? []),
            ],
          },
        },
      },
    },
    {
      kind: "ConfigMap",
      metadata: { name: "coredns", namespace: "kube-system", labels: over.labels ?? {} },
      data: { Corefile: corefile, other: "kept" },
    },
    {
      kind: "Service",
      metadata: { name: "kube-dns", namespace: "kube-system", labels },
      spec: { clusterIPs: ["127.99.0.10"] },
    },
    { kind: "Pod", metadata: { name: "coredns-1", namespace: "kube-system", labels }, status: { phase: "Running" } },
    ...meshDns(["10.96.7.7"]),
    ...(over.more ?? []),
  ]);
}

export function meshDns(clusterIPs: readonly string[], ready = 2): readonly object[] {
  const metadata = { name: "isthmus-dns", namespace: "isthmus-system" };
  const endpoints = Array.from({ length: 2 }, (_, at) => ({
    addresses: [`10.244.0.${at + 1}`],
    conditions: { ready: at < ready },
  }));
  return [
    { kind: "Service", metadata, spec: { clusterIPs } },
    {
      kind: "EndpointSlice",
      metadata: { ...metadata, name: "isthmus-dns-x", labels: { "kubernetes.io/service-name": "isthmus-dns" } },
      endpoints,
    },
  ];
}
