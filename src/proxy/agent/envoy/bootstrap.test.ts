import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { BootstrapSchema } from "../../../proto/gen/envoy/config/bootstrap/v3/bootstrap_pb.js";
import type { Hostname, Ip } from "../../../values/index.ts";
import { nodeMessage } from "../node.ts";
import { envoyBootstrap } from "./bootstrap.ts";

const node = nodeMessage({
  type: "sidecar",
  ip: "10.0.0.1" as Ip,
  pod: "sleep-1",
  namespace: "foo",
  serviceAccount: "sleep",
  cluster: "cluster1",
  clusterDomain: "cluster.local" as Hostname,
  labels: { app: "sleep" },
  network: "net1",
  networkView: undefined,
  interception: "REDIRECT",
  appPorts: undefined,
  explicitPort: undefined,
  version: "0.1.0",
});
const options = {
  node,
  discovery: "10.0.0.9:15012",
  serverName: "isthmus.isthmus-system.svc",
  secrets: "/run/sds.sock",
  admin: { host: "127.0.0.1", port: 15000 },
};
const golden = join(import.meta.dirname, "testdata/bootstrap.json");
const clusterOf = (bootstrap: JsonObject, name: string) =>
  ((bootstrap["staticResources"] as JsonObject)["clusters"] as JsonObject[]).find((one) => one["name"] === name);

test("the bootstrap is the one that was read and agreed to", () => {
  const text = `${JSON.stringify(envoyBootstrap(options), null, 2)}\n`;
  if (process.env["ISTHMUS_GOLDEN"] === "write") writeFileSync(golden, text);
  expect(text).toBe(readFileSync(golden, "utf8"));
});

test("every field of it is one of Envoy's, as the protocol files know them", () => {
  const { overloadManager, staticResources, ...rest } = envoyBootstrap(options);
  expect(overloadManager).toBeDefined();
  expect(staticResources).toBeDefined();
  // What is packed needs its type; the plain rest must read without a field left over.
  expect(() => fromJson(BootstrapSchema, rest)).not.toThrow();
  expect(() => fromJson(BootstrapSchema, { ...rest, adminn: {} })).toThrow();
});

test("with something kept there is a second source, which is asked only while the first does not answer", () => {
  const bootstrap = envoyBootstrap({ ...options, kept: "/run/kept.sock" });
  const text = JSON.stringify(bootstrap["dynamicResources"]);
  expect(text.match(/"clusterName":"[^"]*"/g)).toEqual(['"clusterName":"xds-grpc"', '"clusterName":"kept-grpc"']);
  expect(JSON.stringify(bootstrap["layeredRuntime"])).toContain("xds_failover_support");
  expect(JSON.stringify(clusterOf(bootstrap, "kept-grpc"))).toContain('"path":"/run/kept.sock"');
  const usual = JSON.stringify(envoyBootstrap(options));
  expect(usual).not.toMatch(/kept|failover/);
});

test("a control plane by name is resolved, one by address is not", () => {
  const types = ["control.example:15012", "10.0.0.9:15012", "[fd00::9]:15012"].map((discovery) => {
    const cluster = clusterOf(envoyBootstrap({ ...options, discovery }), "xds-grpc")!;
    return [cluster["type"], JSON.stringify(cluster["loadAssignment"]).match(/"address":"([^"]+)"/)?.[1]];
  });
  expect(types).toEqual([
    ["STRICT_DNS", "control.example"],
    ["STATIC", "10.0.0.9"],
    ["STATIC", "fd00::9"],
  ]);
});

test("no key stands in it, and the admin interface is nobody's but this machine's", () => {
  const text = JSON.stringify(envoyBootstrap({ ...options, admin: { path: "/run/envoy.sock" } }));
  expect(text).not.toMatch(/PRIVATE|inline|0\.0\.0\.0/);
  expect(text).toContain('"admin":{"address":{"pipe":{"path":"/run/envoy.sock","mode":384}}');
});
