import { expect, test } from "vitest";
import { decodeResource, type ServiceEntry } from "../resources/index.ts";
import { SortedMap } from "../values/index.ts";
import { automaticAddresses, buildMesh } from "./build.ts";
import { emptyInput, type MeshInput } from "./input.ts";
import { defaultMeshSettings, type Mesh } from "./mesh.ts";

const settings = { ...defaultMeshSettings, cluster: "cluster1" };

interface Written {
  /** Seconds, as an API server counts them: older is smaller. */
  readonly born: number;
  /** What its status says, by host. */
  readonly given?: Readonly<Record<string, string>>;
  readonly addresses?: readonly string[];
  readonly hosts?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

function entry(name: string, written: Written): ServiceEntry {
  const { born, given = {}, addresses = [], hosts = [`${name}.example`], labels = {} } = written;
  const decoded = decodeResource(
    {
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { namespace: "foo", name, labels, creationTimestamp: new Date(born * 1_000).toISOString() },
      spec: {
        hosts,
        addresses,
        resolution: "STATIC",
        ports: [{ name: "http", number: 80, protocol: "HTTP" }],
        endpoints: [{ address: "10.1.1.1" }],
      },
      status: {
        addresses: Object.entries(given).map(([host, value]) => ({ host, value })),
        conditions: [{ type: "x" }],
      },
    },
    { cluster: "cluster1" },
  );
  if (decoded.outcome !== "good") throw new Error(JSON.stringify(decoded.violations));
  return decoded.resource as ServiceEntry;
}

function mesh(entries: Readonly<Record<string, Written>>, previous?: Mesh): Mesh {
  const resources = Object.entries(entries).map(([name, written]) => [name, entry(name, written)] as const);
  const view: MeshInput = { ...emptyInput, ServiceEntry: SortedMap.empty<string, ServiceEntry>().with(resources) };
  return buildMesh({ view, settings, previous });
}

const given = (of: Mesh) => Object.fromEntries([...automaticAddresses(of)]) as Record<string, string>;

test("what a status says holds, for who begins with it and for who gave another before", () => {
  const written = { a: { born: 1, given: { "a.example": "240.240.7.7" } } };
  expect(given(mesh(written))).toEqual({ "a.example": "240.240.7.7" });
  const own = mesh({ a: { born: 1 } });
  expect(given(own)["a.example"]).not.toBe("240.240.7.7");
  const after = mesh(written, own);
  expect(given(after)).toEqual({ "a.example": "240.240.7.7" });
  expect(after.services.get("a.example" as never)?.addresses).toEqual(["240.240.7.7"]);
});

test("of two that were given one address the older keeps it, in whatever order they come, and the other gets its own", () => {
  const a = { born: 1, given: { "a.example": "240.240.7.7" } };
  const b = { born: 2, given: { "b.example": "240.240.7.7" } };
  const both = given(mesh({ a, b }));
  expect(both["a.example"]).toBe("240.240.7.7");
  expect(both["b.example"]).toMatch(/^240\.240\./);
  expect(both["b.example"]).not.toBe("240.240.7.7");
  expect(given(mesh({ a, b }, mesh({ b })))).toEqual(both);
  expect(given(mesh({ a, b }, mesh({ a })))).toEqual(both);
});

test("who merely took an address gives way to whom a status gives it, older or not", () => {
  const first = mesh({ a: { born: 1 } });
  const taken = given(first)["a.example"]!;
  const after = given(mesh({ a: { born: 1 }, b: { born: 2, given: { "b.example": taken } } }, first));
  expect(after["b.example"]).toBe(taken);
  expect(after["a.example"]).not.toBe(taken);
  expect(after["a.example"]).toMatch(/^240\.240\./);
});

test("an address that somebody wrote down is his, whatever a status says", () => {
  const after = given(
    mesh({ a: { born: 1, given: { "a.example": "240.240.7.7" } }, b: { born: 2, addresses: ["240.240.7.7"] } }),
  );
  expect(after["a.example"]).not.toBe("240.240.7.7");
  expect(after["b.example"]).toBeUndefined();
});

const nonsense: ReadonlyArray<[string, string]> = [
  ["of another range", "10.0.0.1"],
  ["of another family", "2001:2::1"],
  ["that is none", "pear"],
  ["that is the range's own", "240.240.0.0"],
];
for (const [it, value] of nonsense) {
  test(`an address ${it} is not taken from a status`, () => {
    expect(given(mesh({ a: { born: 1, given: { "a.example": value } } }))).toEqual(given(mesh({ a: { born: 1 } })));
  });
}

test("a status about hosts that the entry does not have says nothing", () => {
  const after = given(mesh({ a: { born: 1, given: { "z.example": "240.240.7.7" } } }));
  expect(after).toEqual(given(mesh({ a: { born: 1 } })));
});

test("replicas that saw things in different order agree once it is written down", () => {
  const names = Array.from({ length: 40 }, (_, at) => `s${at}`);
  const leader = names.reduce<Mesh | undefined>(
    (before, _, at) => mesh(Object.fromEntries(names.slice(0, at + 1).map((name, born) => [name, { born }])), before),
    undefined,
  )!;
  const written = Object.fromEntries(
    names.map((name, born) => [name, { born, given: { [`${name}.example`]: given(leader)[`${name}.example`]! } }]),
  );
  const backwards = mesh(Object.fromEntries([...names].reverse().map((name, born) => [name, { born }])));
  expect(given(mesh(written, backwards))).toEqual(given(leader));
  expect(given(mesh(written))).toEqual(given(leader));
});

test("an entry whose label says no gets no address, and gives back what it had; without the label it gets one", () => {
  const labels = { "networking.istio.io/enable-autoallocate-ip": "false" };
  const had = { born: 1, given: { "a.example": "240.240.7.7" } };
  const never = mesh({ a: { ...had, labels }, b: { born: 2 } });
  expect(Object.keys(given(never))).toEqual(["b.example"]);
  expect(never.services.get("a.example" as never)?.addresses).toEqual([]);
  expect(never.findings).toEqual([]);
  expect(given(mesh({ a: { ...had, labels } }, mesh({ a: had })))).toEqual({});
  expect(given(mesh({ a: had }, mesh({ a: { ...had, labels } })))).toEqual({ "a.example": "240.240.7.7" });
  const written = mesh({ a: { born: 1, labels, addresses: ["240.0.0.2"] } });
  expect(written.services.get("a.example" as never)?.addresses).toEqual(["240.0.0.2"]);
  for (const value of ["true", "", "no"])
    expect(given(mesh({ a: { ...had, labels: { "networking.istio.io/enable-autoallocate-ip": value } } }))).toEqual({
      "a.example": "240.240.7.7",
    });
});
