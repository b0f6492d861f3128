import { describe, expect, test } from "vitest";
import { kindNames, type Resource, readResources } from "../resources/index.ts";
import type { Hostname } from "../values/index.ts";
import { buildMesh, defaultMeshSettings, type Mesh, type MeshInput } from "./index.ts";

const settings = Object.freeze({ cluster: "cluster1", ...defaultMeshSettings });
const key = "networking.isthmus.dev/egress-gateway";

function meshOf(texts: readonly string[], previous?: Mesh): Mesh {
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  const { resources, violations } = readResources(texts.join("\n---\n"), { cluster: "cluster1" });
  expect(violations.filter((one) => one.severity === "error")).toEqual([]);
  for (const one of resources) view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  return buildMesh({ view: view as unknown as MeshInput, settings, previous });
}

const gateway = (name = "isthmus-egressgateway", namespace = "isthmus-system", ports = "{name: tls, port: 15443}") =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {clusterIP: 10.96.0.11, selector: {a: b}, ports: [${ports}]}`;
const pods = (ready = true, name = "isthmus-egressgateway", namespace = "isthmus-system") =>
  `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: ${name}-1, namespace: ${namespace}, labels: {kubernetes.io/service-name: ${name}}}\naddressType: IPv4\nports: [{name: tls, port: 15443}]\nendpoints: [{addresses: [10.1.0.3], conditions: {ready: ${ready}}}]`;
const entry = (
  annotation = "",
  rest = "resolution: STATIC, endpoints: [{address: 172.18.0.2, ports: {http: 15443}}]",
  name = "e",
) =>
  `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ${name}, namespace: foo${annotation ? `, annotations: {${key}: "${annotation}"}` : ""}}\nspec: {hosts: [echo.bar.global], location: MESH_INTERNAL, ports: [{name: http, number: 8000, protocol: http}], ${rest}}`;
const namespace = (name: string, annotation: string) =>
  `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}, annotations: {${key}: "${annotation}"}}`;

const echo = (mesh: Mesh) => mesh.services.get("echo.bar.global" as Hostname)!;
/** Address, port and network of each endpoint. */
const reached = (mesh: Mesh) =>
  echo(mesh).endpoints.map((one) => `${one.address}:${one.ports[8000]}${one.network && ` ${one.network}`}`);
const straight = ["172.18.0.2:15443"];
const between = ["172.18.0.2:15443 external", "10.1.0.3:15443"];
const codes = (mesh: Mesh) => mesh.findings.map((one) => one.code);

describe("an annotation for an egress gateway", () => {
  test.each([
    ["nobody's: calls go straight", [entry()], straight],
    ["the entry's", [entry("true")], between],
    ["its namespace's", [entry(), namespace("foo", "true")], between],
    ["the mesh's", [entry(), namespace("isthmus-system", "true")], between],
    ["another namespace's is not meant", [entry(), namespace("bar", "true")], straight],
    ["the entry's no counts more than the namespace's yes", [entry("false"), namespace("foo", "true")], straight],
    [
      "the namespace's no counts more than the mesh's yes",
      [entry(), namespace("foo", "false"), namespace("isthmus-system", "true")],
      straight,
    ],
    ["the gateway's own name means the same", [entry("isthmus-egressgateway"), namespace("foo", "false")], between],
  ])("%s", (_, texts, wanted) => {
    expect(reached(meshOf([gateway(), pods(), ...texts]))).toEqual(wanted);
  });

  test("names a gateway of its own namespace, or of another", () => {
    const own = [gateway("gate", "foo"), pods(true, "gate", "foo")];
    expect(reached(meshOf([...own, entry("gate")]))).toEqual(between);
    expect(reached(meshOf([...own, entry("gate.foo.svc.cluster.local")]))).toEqual(between);
    expect(reached(meshOf([...own, entry(), namespace("isthmus-system", "gate.foo")]))).toEqual(between);
    expect(codes(meshOf([...own, entry(), namespace("isthmus-system", "gate")]))).toEqual(["mesh/egress-gateway-away"]);
  });

  test("for a whole mesh is only for what a gateway can pass on", () => {
    const outside = entry().replace("echo.bar.global", "example.com").replace("MESH_INTERNAL", "MESH_EXTERNAL");
    const mesh = meshOf([gateway(), pods(), outside, namespace("isthmus-system", "true")]);
    expect(mesh.services.get("example.com" as Hostname)).toMatchObject({
      egress: undefined,
      endpoints: [{ network: "" }],
    });
  });

  test("puts the gateway once where it stands among the endpoints already", () => {
    const both =
      "resolution: STATIC, endpoints: [{address: 172.18.0.2, ports: {http: 15443}}, {address: 10.96.0.11, ports: {http: 15443}}]";
    expect(reached(meshOf([gateway(), pods(), entry("true", both)]))).toEqual(between);
  });

  test("tells the gateway from others that share its address by the port", () => {
    const shared = "resolution: STATIC, endpoints: [{address: 10.1.0.3, ports: {http: 20000}}]";
    expect(reached(meshOf([gateway(), pods(), entry("true", shared)]))).toEqual([
      "10.1.0.3:20000 external",
      "10.1.0.3:15443",
    ]);
  });

  test("of one entry leaves no way around in another for the same host", () => {
    const other = entry("", "resolution: STATIC, endpoints: [{address: 172.18.0.9, ports: {http: 15443}}]", "other");
    const mesh = meshOf([gateway(), pods(), entry("true"), other]);
    expect(reached(mesh).sort()).toEqual(["10.1.0.3:15443", "172.18.0.2:15443 external", "172.18.0.9:15443 external"]);
  });

  test.each([
    ["there is no gateway", [], "no-service", "of which there is no Service"],
    [
      "its Service has no port for it",
      [gateway(undefined, undefined, "{name: a, port: 80}")],
      "no-port",
      "no port 15443",
    ],
    ["none of its pods is ready", [gateway(), pods(false)], "not-ready", "no pod is ready"],
  ])("where %s leads nowhere, and says so", (_, texts, problem, says) => {
    const mesh = meshOf([...texts, entry("true")]);
    expect(reached(mesh)).toEqual(["172.18.0.2:15443 external"]);
    expect(echo(mesh).egress).toEqual({ gateway: "isthmus-system/isthmus-egressgateway", by: "annotation", problem });
    expect(mesh.findings).toMatchObject([
      { code: "mesh/egress-gateway-away", severity: "error", origin: { name: "e" } },
    ]);
    expect(mesh.findings[0]!.message).toContain(says);
  });

  test("follows the gateway as it comes and goes", () => {
    const away = meshOf([gateway(), pods(false), entry("true")]);
    const back = meshOf([gateway(), pods(), entry("true")], away);
    expect(reached(back)).toEqual(between);
    expect(codes(back)).toEqual([]);
    const gone = meshOf([entry("true")], back);
    expect(codes(gone)).toEqual(["mesh/egress-gateway-away"]);
    expect(reached(meshOf([gateway(), pods(), entry("false")], gone))).toEqual(straight);
  });
});

describe("an egress gateway among the endpoints", () => {
  const listed = (address: string, resolution = "DNS") =>
    entry(
      "",
      `resolution: ${resolution}, endpoints: [{address: 172.18.0.2, network: external, ports: {http: 15443}}, {address: ${address}, ports: {http: 15443}}]`,
    );
  const own = "isthmus-egressgateway.isthmus-system.svc.cluster.local";
  const brought = "istio-egressgateway.istio-system.svc.cluster.local";

  test.each([
    ["by its name", listed(own), own],
    ["by the name that people bring along", listed(brought), own],
    ["by its cluster address", listed("10.96.0.11", "STATIC"), "10.96.0.11"],
    ["by a pod's address", listed("10.1.0.3", "STATIC"), "10.1.0.3"],
  ])("is known %s", (_, text, address) => {
    const mesh = meshOf([gateway(), pods(), text]);
    expect(echo(mesh).endpoints.map((one) => [one.address, one.egress])).toEqual([
      ["172.18.0.2", false],
      [address, true],
    ]);
    expect(codes(mesh)).toEqual([]);
  });

  test("keeps the name that people bring along where there is such a Service", () => {
    const mesh = meshOf([gateway(), pods(), gateway("istio-egressgateway", "istio-system"), listed(brought)]);
    expect(echo(mesh).endpoints[1]).toMatchObject({ address: brought });
  });

  test("that is away is said", () => {
    expect(codes(meshOf([listed(brought)]))).toEqual(["mesh/egress-gateway-away"]);
    expect(codes(meshOf([gateway(), pods(false), listed("10.96.0.11", "STATIC")]))).toEqual([
      "mesh/egress-gateway-away",
    ]);
  });
});
