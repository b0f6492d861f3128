import { expect, test } from "vitest";
import { keptOf } from "./kept.ts";

test("of a Pod is kept where it is, who it is, and its named ports", () => {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      namespace: "foo",
      name: "sleep-1",
      uid: "u",
      resourceVersion: "7",
      labels: { app: "sleep" },
      annotations: { "proxy.istio.io/config": "gatewayTopology: {}", "long.example/note": "x".repeat(1_000) },
      managedFields: [{ manager: "kubelet" }],
      ownerReferences: [{ kind: "ReplicaSet" }],
    },
    spec: {
      serviceAccountName: "sleep",
      nodeName: "n1",
      containers: [
        { name: "sleep", image: "i", env: [{ name: "A", value: "b" }], ports: [{ name: "http", containerPort: 80 }] },
      ],
      volumes: [{ name: "v" }],
    },
    status: { phase: "Running", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }], conditions: [{ type: "Ready" }] },
  };
  expect(keptOf(pod)).toEqual({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      namespace: "foo",
      name: "sleep-1",
      uid: "u",
      labels: { app: "sleep" },
      annotations: { "proxy.istio.io/config": "gatewayTopology: {}" },
    },
    spec: {
      serviceAccountName: "sleep",
      nodeName: "n1",
      containers: [{ name: "sleep", ports: [{ name: "http", containerPort: 80 }] }],
    },
    status: { phase: "Running", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }] },
  });
});

test("of others only bookkeeping goes, and the copy of itself that kubectl leaves", () => {
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      namespace: "foo",
      name: "a",
      resourceVersion: "7",
      annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}", mine: "1" },
      managedFields: [],
    },
    spec: { ports: [{ port: 80 }] },
  };
  expect(keptOf(service)).toEqual({
    apiVersion: "v1",
    kind: "Service",
    metadata: { namespace: "foo", name: "a", annotations: { mine: "1" } },
    spec: { ports: [{ port: 80 }] },
  });
});

test("a Pod with nothing in it does not break", () => {
  expect(keptOf({ kind: "Pod", metadata: { name: "a" } })).toMatchObject({ metadata: { name: "a" } });
});
