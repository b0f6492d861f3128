import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { plainObjects, writeManifest } from "../resources/index.ts";
import { inject } from "./inject.ts";
import { jsonPatch } from "./patch.ts";
import type { ContainerJson, PodJson, ProbeJson } from "./pod.ts";
import { defaultInjectionSettings, type InjectionSettings } from "./settings.ts";

const settings = defaultInjectionSettings({ cluster: "cluster1", tag: "1.2.3" });
const modern = { serverVersion: { major: 1, minor: 33 } };
const old = { serverVersion: { major: 1, minor: 28 } };

const plain: PodJson = {
  metadata: {
    generateName: "httpbin-6f5d8c7b9-",
    labels: { app: "httpbin", version: "v1", "pod-template-hash": "6f5d8c7b9" },
    ownerReferences: [{ kind: "ReplicaSet", name: "httpbin-6f5d8c7b9", controller: true }],
  },
  spec: {
    serviceAccountName: "httpbin",
    containers: [{ name: "httpbin", image: "docker.io/kong/httpbin", ports: [{ containerPort: 8080 }] }],
  },
};

const busy: PodJson = {
  metadata: {
    name: "busy",
    annotations: {
      "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8, 240.0.0.0/4",
      "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.1.0.0/16",
      "traffic.sidecar.istio.io/includeInboundPorts": "8080,9000",
      "traffic.sidecar.istio.io/excludeInboundPorts": "9090",
      "traffic.sidecar.istio.io/excludeOutboundPorts": "3306,6379",
      "traffic.sidecar.istio.io/kubevirtInterfaces": "net1",
      "status.sidecar.istio.io/port": "15999",
      "sidecar.istio.io/proxyCPU": "200m",
      "sidecar.istio.io/proxyMemory": "64Mi",
      "sidecar.istio.io/proxyMemoryLimit": "128Mi",
      "sidecar.istio.io/proxyImage": "example.org/proxy:2",
      "sidecar.istio.io/logLevel": "warning",
      "sidecar.istio.io/userVolume": '{"mine": {"emptyDir": {}}}',
      "sidecar.istio.io/userVolumeMount": '{"mine": {"mountPath": "/mine"}}',
      "proxy.istio.io/config": "concurrency: 2\nholdApplicationUntilProxyStarts: true\nproxyMetadata:\n  COLOUR: red\n",
      "sidecar.isthmus.dev/data-plane": "envoy",
      "sidecar.istio.io/nativeSidecar": "false",
    },
  },
  spec: {
    initContainers: [{ name: "prepare", image: "prepare" }],
    containers: [
      {
        name: "web",
        image: "web",
        ports: [{ name: "http", containerPort: 8080 }],
        readinessProbe: {
          httpGet: { path: "/ready", port: "http", httpHeaders: [{ name: "Host", value: "web" }] },
          periodSeconds: 5,
        },
        livenessProbe: { tcpSocket: { port: 8080 }, timeoutSeconds: 3 },
        startupProbe: { grpc: { port: 9000, service: "web" } },
      },
      { name: "helper", image: "helper", livenessProbe: { exec: { command: ["true"] } } },
    ],
    volumes: [{ name: "own", emptyDir: {} }],
    dnsConfig: { searches: ["example.org"], options: [{ name: "ndots", value: "2" }] },
    securityContext: { fsGroup: 2000, runAsUser: 1000 },
    imagePullSecrets: [{ name: "own" }],
  },
};

function injected(
  pod: PodJson,
  options: { settings?: Partial<InjectionSettings>; facts?: Parameters<typeof inject>[2] } = {},
) {
  const injection = inject(pod, { ...settings, ...options.settings }, options.facts ?? modern);
  if (injection.outcome !== "injected") throw new Error(JSON.stringify(injection));
  return injection;
}

function proxyOf(pod: PodJson): ContainerJson {
  return [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].find(
    ({ name }) => name === "istio-proxy",
  )!;
}

const names = (containers: readonly ContainerJson[] = []) => containers.map(({ name }) => name);

describe("golden pods", () => {
  for (const [name, pod, options] of [
    ["embedded-native", plain, {}],
    ["embedded-classic", plain, { facts: old }],
    ["envoy-native", plain, { settings: { dataPlane: "envoy" } }],
    ["annotated-envoy", busy, { settings: { imagePullSecrets: ["registry"], network: "network1" } }],
  ] as const) {
    test(name, () => {
      const text = writeManifest([injected(pod, options).pod]);
      const golden = join(import.meta.dirname, "testdata", `${name}.yaml`);
      if (process.env["ISTHMUS_GOLDEN"] === "write") writeFileSync(golden, text);
      expect(plainObjects(text)).toEqual(plainObjects(readFileSync(golden, "utf8")));
      expect(text).toBe(readFileSync(golden, "utf8"));
    });
  }
});

test("an image is named by its parts, or as a whole", () => {
  const imageOf = (own: Partial<InjectionSettings>) => proxyOf(injected(plain, { settings: own }).pod)["image"];
  expect(imageOf({ hub: "example.org/mesh" })).toBe("example.org/mesh/isthmus:1.2.3");
  expect(imageOf({ hub: "", dataPlane: "envoy" })).toBe("isthmus:1.2.3-envoy");
  expect(imageOf({ image: "example.org/a:b", dataPlane: "envoy" })).toBe("example.org/a:b-envoy");
  expect(imageOf({ image: `a@sha256:${"0".repeat(64)}`, dataPlane: "envoy" })).toBe(`a@sha256:${"0".repeat(64)}`);
});

test("the proxy asks the control plane of its revision, by the name that is in that one's certificate", () => {
  const asked = (own: InjectionSettings) => {
    const args = proxyOf(injected(plain, { settings: own }).pod)["args"] as readonly string[];
    return ["--discovery", "--server-name"].map((option) => args[args.indexOf(option) + 1]);
  };
  const of = (revision: string) => defaultInjectionSettings({ cluster: "cluster1", tag: "1.2.3", revision });
  expect(asked(of("default"))).toEqual(["isthmus.isthmus-system.svc:15012", "isthmus.isthmus-system.svc"]);
  expect(asked(of("canary"))).toEqual(["isthmus-canary.isthmus-system.svc:15012", "isthmus-canary.isthmus-system.svc"]);
  // Reached another way, its certificate is the same.
  expect(asked({ ...of("canary"), discovery: "10.0.0.9:15012" })).toEqual([
    "10.0.0.9:15012",
    "isthmus-canary.isthmus-system.svc",
  ]);
});

describe("order of containers", () => {
  const own: PodJson = { ...plain, spec: { ...plain.spec, initContainers: [{ name: "prepare" }] } };
  test("a native sidecar comes before the pod's own init containers, the rules before it", () => {
    const { spec } = injected(own).pod;
    expect(names(spec?.initContainers)).toEqual(["istio-init", "istio-proxy", "prepare"]);
    expect(names(spec?.containers)).toEqual(["httpbin"]);
    expect(proxyOf(injected(own).pod)).toMatchObject({ restartPolicy: "Always", startupProbe: {} });
  });
  test("else the rules come after them, and the proxy last", () => {
    const { spec } = injected(own, { facts: old }).pod;
    expect(names(spec?.initContainers)).toEqual(["prepare", "istio-init"]);
    expect(names(spec?.containers)).toEqual(["httpbin", "istio-proxy"]);
  });
  test("or first, with a wait, when the application is to be held", () => {
    const { spec } = injected(own, { facts: old, settings: { holdApplication: true } }).pod;
    expect(names(spec?.containers)).toEqual(["istio-proxy", "httpbin"]);
    expect(spec?.containers?.[0]?.["lifecycle"]).toEqual({ postStart: { exec: { command: ["isthmus", "wait"] } } });
  });
  test("of a server whose version is not known a native one is not asked for", () => {
    expect(proxyOf(injected(own, { facts: { serverVersion: undefined } }).pod)["restartPolicy"]).toBeUndefined();
  });
  test("nothing is captured without interception", () => {
    const pod = { ...plain, metadata: { annotations: { "sidecar.istio.io/interceptionMode": "NONE" } } };
    expect(names(injected(pod).pod.spec?.initContainers)).toEqual(["istio-proxy"]);
  });
});

test("a pod that was injected is left as it is", () => {
  for (const facts of [old, modern]) {
    const { pod } = injected(busy, { facts });
    expect(inject(pod, settings, facts)).toEqual({ outcome: "already" });
  }
});

test("the pod that comes in is not changed, and the patch makes of it the one that goes out", () => {
  const before = structuredClone(busy);
  const { pod } = injected(busy);
  expect(busy).toEqual(before);
  const paths = jsonPatch(busy, pod).map(({ path }) => path);
  expect(paths).toContain("/spec/containers");
  expect(paths).toContain("/metadata/annotations/sidecar.istio.io~1status");
});

test("what the pod has is kept: search domains, group, volumes, secrets, labels", () => {
  const { pod } = injected({ ...busy, metadata: { ...busy.metadata, labels: { "istio.io/rev": "mine" } } });
  expect(pod.spec?.dnsConfig).toEqual({
    searches: ["example.org", "global"],
    options: [{ name: "ndots", value: "2" }],
  });
  expect(pod.spec?.securityContext).toEqual({ fsGroup: 2000, runAsUser: 1000 });
  expect(pod.spec?.volumes?.[0]).toEqual({ name: "own", emptyDir: {} });
  expect(pod.metadata?.labels?.["istio.io/rev"]).toBe("mine");
  expect(injected(plain).pod.spec?.securityContext).toEqual({ fsGroup: 1337 });
});

test("the workload's name is that of its labels, of what it is said to be, or of its owner", () => {
  const nameOf = (pod: PodJson, workload?: string) =>
    injected(pod, { facts: { ...modern, ...(workload === undefined ? {} : { workload }) } }).pod.metadata?.labels?.[
      "service.istio.io/canonical-name"
    ];
  expect(nameOf(plain, "other")).toBe("httpbin");
  const bare = { ...plain, metadata: { ...plain.metadata, labels: { "pod-template-hash": "6f5d8c7b9" } } };
  expect(nameOf(bare)).toBe("httpbin");
  expect(nameOf(bare, `${"a".repeat(62)}--`)).toBe("a".repeat(62));
  expect(nameOf({ metadata: {}, spec: { containers: [] } })).toBeUndefined();
});

describe("probes", () => {
  const probers = (pod: PodJson) => {
    const env = proxyOf(pod)["env"] as readonly { name: string; value?: string }[];
    return JSON.parse(env.find(({ name }) => name === "ISTIO_KUBE_APP_PROBERS")?.value ?? "{}") as Record<
      string,
      unknown
    >;
  };
  test("of HTTP, TCP and gRPC are asked at the proxy, which knows what was to be asked", () => {
    const { pod } = injected(busy);
    const web = pod.spec?.containers?.find(({ name }) => name === "web");
    expect(web?.readinessProbe).toEqual({ httpGet: { path: "/app-health/web/readyz", port: 15999 }, periodSeconds: 5 });
    expect(web?.livenessProbe).toEqual({ httpGet: { path: "/app-health/web/livez", port: 15999 }, timeoutSeconds: 3 });
    expect(web?.startupProbe).toEqual({ httpGet: { path: "/app-health/web/startupz", port: 15999 } });
    expect(probers(pod)).toEqual({
      "/app-health/web/readyz": {
        httpGet: { path: "/ready", port: 8080, httpHeaders: [{ name: "Host", value: "web" }] },
      },
      "/app-health/web/livez": { tcpSocket: { port: 8080 }, timeoutSeconds: 3 },
      "/app-health/web/startupz": { grpc: { port: 9000, service: "web" } },
    });
  });
  const withProbe = (probe: ProbeJson, annotations = {}): PodJson => ({
    metadata: { annotations },
    spec: { containers: [{ name: "a", readinessProbe: probe }] },
  });
  for (const [it, pod] of [
    ["by command", withProbe({ exec: { command: ["true"] } })],
    ["of another host", withProbe({ httpGet: { port: 80, host: "10.0.0.1" } })],
    ["of a port that nobody named", withProbe({ httpGet: { port: "http" } })],
    [
      "where the pod says so",
      withProbe({ httpGet: { port: 80 } }, { "sidecar.istio.io/rewriteAppHTTPProbers": "false" }),
    ],
    ["where there is no status port", withProbe({ httpGet: { port: 80 } }, { "status.sidecar.istio.io/port": "0" })],
  ] as const) {
    test(`stay as they are ${it}`, () => {
      const { pod: after } = injected(pod);
      expect(after.spec?.containers?.[0]).toEqual(pod.spec?.containers?.[0]);
      expect(probers(after)).toEqual({});
    });
  }
  test("of init containers are rewritten only where the proxy runs before them", () => {
    const pod: PodJson = {
      spec: {
        containers: [],
        initContainers: [{ name: "i", restartPolicy: "Always", startupProbe: { tcpSocket: { port: 1 } } }],
      },
    };
    expect(Object.keys(probers(injected(pod).pod))).toEqual(["/app-health/i/startupz"]);
    expect(probers(injected(pod, { facts: old }).pod)).toEqual({});
  });
});

describe("a container of the pod's own named istio-proxy", () => {
  const own = (container: object): PodJson => ({
    spec: { containers: [{ name: "app" }, { name: "istio-proxy", ...container }] },
  });
  test("says over ours what it wants, and takes its place", () => {
    const { pod } = injected(
      own({
        image: "auto",
        imagePullPolicy: "Always",
        resources: { limits: { cpu: "4" } },
        env: [{ name: "A", value: "b" }],
        volumeMounts: [{ name: "x", mountPath: "/x" }],
        securityContext: { readOnlyRootFilesystem: false },
      }),
    );
    const proxy = proxyOf(pod);
    expect(names(pod.spec?.containers)).toEqual(["app"]);
    expect(proxy).toMatchObject({ image: "isthmus/isthmus:1.2.3", resources: { limits: { cpu: "4" } } });
    expect(proxy["imagePullPolicy"]).toBeUndefined();
    expect(proxy.securityContext).toMatchObject({ runAsUser: 1337, readOnlyRootFilesystem: false });
    expect(JSON.stringify(proxy["env"])).toContain('{"name":"A","value":"b"}');
    expect(JSON.stringify(proxy["volumeMounts"])).toContain('"/x"');
  });
  test("must not say how it is started", () => {
    const refused = inject(own({ command: ["sh"], args: ["-c", "true"] }), settings, modern);
    expect(refused).toMatchObject({
      outcome: "refused",
      problems: [expect.stringContaining("command"), expect.stringContaining("args")],
    });
  });
});

test("everything that a pod asks for in vain is said at once", () => {
  const refused = inject(
    {
      metadata: {
        annotations: {
          "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/40",
          "traffic.sidecar.istio.io/excludeInboundPorts": "80,http",
          "sidecar.istio.io/interceptionMode": "TPROXY",
          "sidecar.istio.io/proxyCPU": "4",
          "sidecar.istio.io/proxyCPULimit": "2",
          "sidecar.istio.io/proxyMemory": "lots",
          "sidecar.istio.io/logLevel": "loud",
          "sidecar.istio.io/rewriteAppHTTPProbers": "yes",
          "status.sidecar.istio.io/port": "70000",
          "sidecar.istio.io/userVolume": "[]",
          "sidecar.isthmus.dev/data-plane": "nginx",
          "proxy.istio.io/config": "concurrency: many",
        },
      },
      spec: {
        containers: [],
        initContainers: [{ name: "istio-init" }],
        volumes: [{ name: "istio-data", emptyDir: {} }],
      },
    },
    settings,
    modern,
  );
  if (refused.outcome !== "refused") throw new Error("it is not refused");
  const said = refused.problems.join("\n");
  for (const word of [
    "includeOutboundIPRanges",
    "excludeInboundPorts",
    "TPROXY",
    "above the limit of 2",
    "proxyMemory",
    "logLevel",
  ])
    expect(said).toContain(word);
  for (const word of [
    "rewriteAppHTTPProbers",
    "status.sidecar.istio.io/port",
    "userVolume",
    "data-plane",
    "concurrency",
    "istio-init",
    "istio-data",
  ])
    expect(said).toContain(word);
  expect(refused.problems).toHaveLength(13);
});

test("a native sidecar is refused where the server has none, and a pod never waits for one in vain", () => {
  const pod = { ...plain, metadata: { annotations: { "sidecar.istio.io/nativeSidecar": "true" } } };
  expect(inject(pod, settings, old)).toMatchObject({ outcome: "refused", problems: [expect.stringContaining("1.28")] });
});

test("what works, and not as its author thinks, is said", () => {
  const { warnings } = injected({
    metadata: { annotations: { "sidecar.istio.io/bootstrapOverride": "x", "proxy.istio.io/config": "tracing: {}" } },
    spec: { containers: [{ name: "a", ports: [{ containerPort: 15001 }], securityContext: { runAsUser: 1337 } }] },
  });
  expect(warnings).toHaveLength(4);
});
