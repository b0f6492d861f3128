import { expect, test } from "vitest";
import { type Resource, readResources } from "../resources/index.ts";
import { Addresses, endpointSlices, podObject, type RunningPod, serviceObject } from "./runtime-objects.ts";
import { podName, wantedPods } from "./workloads.ts";

function read<K extends Resource["kind"]>(kind: K, text: string): Extract<Resource, { kind: K }>[] {
  const { resources, violations } = readResources(text, { cluster: "c1" });
  expect(violations).toEqual([]);
  return resources.filter((resource): resource is Extract<Resource, { kind: K }> => resource.kind === kind);
}

function deployment(template: string): string {
  return `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: foo }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web${template} } }
    spec: { containers: [{ name: web, image: busybox, command: [sleep, "1"] }] }`;
}
const enabled = `{ apiVersion: v1, kind: Namespace, metadata: { name: foo, labels: { istio-injection: enabled } } }`;

function wanted(template: string, namespaceText = enabled) {
  const namespaces = new Map(read("Namespace", namespaceText).map((one) => [one.metadata.name, one]));
  return wantedPods({ deployments: read("Deployment", deployment(template)), pods: [], namespaces });
}

const injection = [
  { it: "the namespace's label", template: "", injected: true },
  { it: "the pod's own no", template: ', sidecar.istio.io/inject: "false"', injected: false },
];
for (const { it, template, injected } of injection) {
  test(`${it} decides on a sidecar: ${injected}`, () => {
    expect(wanted(template).map((pod) => pod.injected)).toEqual([injected, injected]);
  });
}

test("a namespace without the label injects nothing, unless the pod asks for it", () => {
  const plain = "{ apiVersion: v1, kind: Namespace, metadata: { name: foo } }";
  expect(wanted("", plain)[0]?.injected).toBe(false);
  expect(wanted(', sidecar.istio.io/inject: "true"', plain)[0]?.injected).toBe(true);
});

test("a changed template is another revision, an unchanged one the same", () => {
  expect(wanted("")[0]?.revision).toBe(wanted("")[1]?.revision);
  expect(wanted("")[0]?.revision).not.toBe(wanted(", version: v2")[0]?.revision);
});

test("a replica is named as Kubernetes would", () => {
  expect(podName(wanted("")[0]!, () => 0)).toMatch(/^web-[0-9a-f]{9}-bbbbb$/);
});

const service = read(
  "Service",
  `{ apiVersion: v1, kind: Service, metadata: { name: web, namespace: foo }, spec: { selector: { app: web },
     ports: [{ name: http, port: 8000, targetPort: http }] } }`,
)[0]!;
const pod: RunningPod = {
  namespace: "foo",
  name: "web-1",
  ip: "10.244.0.10",
  wanIp: undefined,
  labels: { app: "web" },
  annotations: {},
  serviceAccount: "web",
  containers: [{ name: "web", ports: [{ name: "http", containerPort: 80 }] }],
  injected: true,
  ready: true,
  terminating: false,
  reachedAt: (port) => port,
  setOuterPorts: async () => {},
};

test("a named target port is looked up in each pod, and pods that differ are in slices of their own", () => {
  const other = {
    ...pod,
    name: "web-2",
    ip: "10.244.0.11",
    containers: [{ name: "web", ports: [{ name: "http", containerPort: 8080 }] }],
  };
  const slices = endpointSlices(service, [pod, other]) as {
    ports: { port: number }[];
    endpoints: { addresses: string[] }[];
  }[];
  expect(slices.map(({ ports, endpoints }) => [ports[0]?.port, endpoints[0]?.addresses[0]])).toEqual([
    [80, "10.244.0.10"],
    [8080, "10.244.0.11"],
  ]);
});

test("a pod that is going takes no new calls", () => {
  const [slice] = endpointSlices(service, [{ ...pod, terminating: true }]) as { endpoints: { conditions: object }[] }[];
  expect(slice?.endpoints[0]?.conditions).toEqual({ ready: false, serving: true, terminating: true });
});

test("a cluster address is the same after a restart, and no two services have one", () => {
  const first = new Addresses();
  const second = new Addresses();
  const names = Array.from({ length: 300 }, (_, n) => `ns/service-${n}`);
  const given = names.map((name) => first.clusterIp(name, undefined));
  expect(new Set(given).size).toBe(300);
  expect(names.map((name) => second.clusterIp(name, undefined))).toEqual(given);
});

test("what is written for the control plane reads back without a violation", () => {
  const objects = [serviceObject(service, [pod], new Addresses()), podObject(pod), ...endpointSlices(service, [pod])];
  const text = objects.map((object) => JSON.stringify(object)).join("\n---\n");
  const { resources, violations } = readResources(text, { cluster: "c1" });
  expect(violations).toEqual([]);
  expect(resources.map(({ kind }) => kind)).toEqual(["Service", "Pod", "EndpointSlice"]);
  expect(resources[1]?.metadata.labels["security.istio.io/tlsMode"]).toBe("istio");
});
