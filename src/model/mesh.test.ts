import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { kindNames, type Resource, readResources } from "../resources/index.ts";
import type { Hostname, Ip } from "../values/index.ts";
import { buildMesh, defaultMeshSettings, findingCodes, type Mesh, type MeshInput, namesFor } from "./index.ts";
import { allocate } from "./vips.ts";

const settings = Object.freeze({ cluster: "cluster1", ...defaultMeshSettings });

function viewOf(resources: readonly Resource[]): MeshInput {
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  for (const one of resources) view[one.kind]!.set(`${one.metadata.namespace}/${one.metadata.name}`, one);
  return view as unknown as MeshInput;
}

function resourcesOf(text: string): readonly Resource[] {
  const { resources, violations } = readResources(text, { cluster: "cluster1" });
  const errors = violations.filter((one) => one.severity === "error");
  if (errors.length > 0) throw new Error(JSON.stringify(errors));
  return resources;
}

const meshOf = (text: string, previous?: Mesh) => buildMesh({ view: viewOf(resourcesOf(text)), settings, previous });

function entry(name: string, spec: string, created = ""): string {
  return `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ${name}, namespace: foo${created ? `, creationTimestamp: "${created}"` : ""} }
spec: { location: MESH_INTERNAL, resolution: STATIC, ports: [{ name: http, number: 80, protocol: http }], endpoints: [{ address: 10.9.9.9, ports: { http: 15443 } }], ${spec} }
---
`;
}

const codesOf = (mesh: Mesh) => mesh.findings.map((one) => one.code);
const addressesOf = (mesh: Mesh, host: string) => mesh.services.get(host as Hostname)?.addresses;

describe("virtual addresses", () => {
  test("of two entries with one address the older keeps it, the younger gets none and is told", () => {
    const mesh = meshOf(
      entry("a", "hosts: [a.bar.global], addresses: [240.0.0.1]", "2026-02-02T00:00:00Z") +
        entry("b", "hosts: [b.bar.global], addresses: [240.0.0.1]", "2026-01-01T00:00:00Z"),
    );
    expect(addressesOf(mesh, "b.bar.global")).toEqual(["240.0.0.1"]);
    expect(addressesOf(mesh, "a.bar.global")).toEqual([]);
    expect(mesh.findings).toMatchObject([{ code: "mesh/address-conflict", severity: "error", origin: { name: "a" } }]);
  });

  test("without a time of creation the name decides", () => {
    const mesh = meshOf(
      entry("z", "hosts: [a.bar.global], addresses: [240.0.0.1]") +
        entry("b", "hosts: [b.bar.global], addresses: [240.0.0.1]"),
    );
    expect(addressesOf(mesh, "b.bar.global")).toEqual(["240.0.0.1"]);
    expect(codesOf(mesh)).toEqual(["mesh/address-conflict"]);
  });

  test("an entry without an address gets one that survives a restart and edits of others", () => {
    const first = meshOf(entry("a", "hosts: [a.bar.global]"));
    const again = meshOf(entry("a", "hosts: [a.bar.global]") + entry("b", "hosts: [b.bar.global]"));
    const later = meshOf(entry("a", "hosts: [a.bar.global]") + entry("c", "hosts: [c.bar.global]"), again);
    expect(addressesOf(first, "a.bar.global")).toHaveLength(1);
    expect(addressesOf(first, "a.bar.global")![0]).toMatch(/^240\.240\./);
    expect(addressesOf(again, "a.bar.global")).toEqual(addressesOf(first, "a.bar.global"));
    expect(addressesOf(later, "a.bar.global")).toEqual(addressesOf(first, "a.bar.global"));
  });

  test("an automatic address gives way to the same one written down", () => {
    const [automatic] = addressesOf(meshOf(entry("a", "hosts: [a.bar.global]")), "a.bar.global")!;
    const mesh = meshOf(
      entry("a", "hosts: [a.bar.global]") + entry("b", `hosts: [b.bar.global], addresses: [${automatic}]`),
    );
    expect(addressesOf(mesh, "b.bar.global")).toEqual([automatic]);
    expect(addressesOf(mesh, "a.bar.global")).not.toEqual([automatic]);
  });

  test("no two hosts share one, and when all are given the rest are named", () => {
    const hosts = Array.from({ length: 40 }, (_, at) => `h${at}.bar.global` as Hostname);
    const { given, without } = allocate({ hosts, taken: new Set<Ip>(), reserved: new Set<Ip>(), size: 30 });
    expect(new Set(given.values()).size).toBe(30);
    expect(without).toHaveLength(10);
  });

  test("a single IPv6 address counts, a range does not answer names", () => {
    const mesh = meshOf(entry("a", 'hosts: [a.bar.global], addresses: ["2001:db8::1/128", 240.1.0.0/16]'));
    expect(namesFor(mesh).map(({ name, addresses }) => [name, addresses])).toEqual([["a.bar.global", ["2001:db8::1"]]]);
    expect(mesh.services.get("a.bar.global" as Hostname)!.ranges).toHaveLength(1);
  });
});

describe("a mesh", () => {
  const sample = readFileSync(join(import.meta.dirname, "../xds/testdata/version-routing-cluster1/in.yaml"), "utf8");
  const pool = [
    ...resourcesOf(sample),
    ...resourcesOf(
      Array.from({ length: 6 }, (_, at) =>
        entry(`e${at}`, `hosts: [e${at}.bar.global]${at % 2 ? `, addresses: [240.0.0.${at % 4}]` : ""}`),
      ).join(""),
    ),
  ];
  const plain = (mesh: Mesh) =>
    JSON.parse(JSON.stringify({ ...mesh, services: [...mesh.services], findings: mesh.findings }));

  test("does not depend on the order of its resources", () => {
    const expected = plain(buildMesh({ view: viewOf(pool), settings }));
    fc.assert(
      fc.property(fc.shuffledSubarray(pool, { minLength: pool.length }), (shuffled) => {
        expect(plain(buildMesh({ view: viewOf(shuffled), settings }))).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  test("made from the one before is the mesh made from nothing", () => {
    fc.assert(
      fc.property(fc.subarray(pool), fc.subarray(pool), (one, two) => {
        const previous = buildMesh({ view: viewOf(one), settings });
        expect(plain(buildMesh({ view: viewOf(two), settings, previous }))).toEqual(
          plain(buildMesh({ view: viewOf(two), settings })),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("keeps the services that a change does not touch", () => {
    const before = buildMesh({ view: viewOf(pool), settings });
    const rest = pool.filter((one) => one.metadata.name !== "e0");
    const after = buildMesh({ view: viewOf(rest), settings, previous: before });
    for (const [host, service] of after.services) expect(service, host).toBe(before.services.get(host));
    expect(after.services.has("e0.bar.global" as Hostname)).toBe(false);
  });
});

describe("findings", () => {
  const rows = [
    {
      of: "a rule that turns mutual TLS off",
      text: `${entry("a", "hosts: [a.bar.global]")}apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: a, namespace: foo }\nspec: { host: a.bar.global, trafficPolicy: { tls: { mode: DISABLE } } }`,
      codes: ["mesh/mtls-off"],
    },
    {
      of: "a rule that says nothing of TLS: nothing",
      text: `${entry("a", "hosts: [a.bar.global]")}apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: a, namespace: foo }\nspec: { host: a.bar.global, trafficPolicy: { connectionPool: { tcp: { maxConnections: 1 } } } }`,
      codes: [],
    },
    {
      of: "one host declared by two namespaces",
      text:
        entry("a", "hosts: [a.bar.global]") +
        entry("a", "hosts: [a.bar.global]").replace("namespace: foo", "namespace: moo"),
      codes: ["mesh/host-conflict"],
    },
    {
      of: "an entry that selects nobody",
      text: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: a, namespace: foo }\nspec: { hosts: [a.example.com], resolution: STATIC, ports: [{ name: http, number: 80, protocol: http }], workloadSelector: { labels: { app: a } } }",
      codes: ["mesh/no-endpoints"],
    },
  ];
  for (const { of, text, codes } of rows) test(`see ${of}`, () => expect(codesOf(meshOf(text))).toEqual(codes));

  test("stand in the list of errors, every code", () => {
    const listed = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");
    for (const code of Object.keys(findingCodes)) expect(listed).toContain(`\`${code}\``);
  });
});
