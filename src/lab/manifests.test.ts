import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Scope } from "../base/index.ts";
import { readResources } from "../resources/index.ts";
import { FakeClock, scratchDir } from "../testing/index.ts";
import { Manifests } from "./manifests.ts";

const entry = (name: string, host = `${name}.example`) => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ${name}, namespace: foo }
spec:
  hosts: [${host}]
  ports: [{ number: 80, name: http, protocol: HTTP }]
`;
const context = { file: "applied.yaml", namespace: "foo" };
const named = (name: string) => ({ kind: "se", namespace: "foo", name });

let scope: Scope;
let clock: FakeClock;
let dir: string;
let file: string;
beforeEach(() => {
  scope = new Scope();
  clock = new FakeClock();
  dir = scratchDir();
  mkdirSync(join(dir, "user"));
  file = join(dir, "user", "entries.yaml");
  writeFileSync(file, [entry("one"), entry("two"), entry("three")].join("---\n"));
});
afterEach(() => scope.close());

function manifests(): Manifests {
  return new Manifests(
    {
      cluster: "c1",
      folders: [join(dir, "user")],
      copyFolder: join(dir, "copied"),
      appliedFolder: join(dir, "applied"),
      systemFolder: join(dir, "system"),
      system: [{ apiVersion: "v1", kind: "Namespace", metadata: { name: "own" } }],
      variables: {},
      rewrite: undefined,
      clock,
      onChange: () => {},
    },
    scope,
  );
}

/** Hosts of each entry as the lab sees it; and as the control plane does, which reads folders. */
function seen(all: Manifests) {
  const lab = [...all.resources.values()].flatMap((one) => (one.kind === "ServiceEntry" ? [one.metadata.name] : []));
  const read = (folder: string) =>
    readdirSync(join(dir, folder)).flatMap((name) => {
      const { resources, violations } = readResources(readFileSync(join(dir, folder, name), "utf8"), { cluster: "c1" });
      expect(violations).toEqual([]);
      return resources.map(({ metadata, origin }) => `${metadata.name}:${origin.line}`);
    });
  return { lab, copied: read("copied"), applied: read("applied") };
}

async function write(text: string): Promise<void> {
  writeFileSync(file, text);
  await clock.advance(6_000);
}

test("an object of a folder is deleted for lab and control plane, and the others keep their lines", () => {
  const all = manifests();
  expect(seen(all).copied).toEqual(["one:1", "two:8", "three:15"]);
  expect(all.delete([named("two")])).toEqual([
    `serviceentry/two deleted; it stands in ${file} still and comes back when that changes`,
  ]);
  expect(seen(all)).toEqual({ lab: ["one", "three"], copied: ["one:1", "three:15"], applied: [] });
});

test("a deletion holds while the file changes elsewhere, and ends when it says something else of the object", async () => {
  const all = manifests();
  all.delete([named("two")]);
  await write([entry("one", "other.example"), entry("two")].join("---\n"));
  expect(seen(all)).toEqual({ lab: ["one"], copied: ["one:1"], applied: [] });
  await write([entry("one"), entry("two", "other.example")].join("---\n"));
  expect(seen(all)).toEqual({ lab: ["one", "two"], copied: ["one:1", "two:8"], applied: [] });
});

test("a deletion ends when the object was away and comes back", async () => {
  const all = manifests();
  all.delete([named("two")]);
  await write(entry("one"));
  await write([entry("one"), entry("two")].join("---\n"));
  expect(seen(all).lab).toEqual(["one", "two"]);
});

test("what was applied over a folder's object is deleted together with it", () => {
  const all = manifests();
  expect(all.apply(entry("two", "other.example"), context)).toEqual(["serviceentry/two configured"]);
  all.delete([named("two")]);
  expect(seen(all)).toEqual({ lab: ["one", "three"], copied: ["one:1", "three:15"], applied: [] });
});

test("applying a deleted object brings it back", () => {
  const all = manifests();
  all.delete([named("two")]);
  expect(all.apply(entry("two"), context)).toEqual(["serviceentry/two created"]);
  expect(seen(all).lab.sort()).toEqual(["one", "three", "two"]);
  expect(seen(all).applied).toEqual(["two:1"]);
});

test("several are deleted, or none when one is not there", () => {
  const all = manifests();
  expect(() => all.delete([named("one"), named("four")])).toThrow(/there is no serviceentry\/four/);
  expect(seen(all).lab).toEqual(["one", "two", "three"]);
  expect(() => all.delete([{ kind: "namespace", namespace: "default", name: "own" }])).toThrow(/belongs to the lab/);
  all.delete([named("one"), named("two"), named("three")]);
  expect(() => all.delete([named("one")])).toThrow(/there is no serviceentry\/one/);
});

test("a deleted object stays away while its file cannot be read", async () => {
  const all = manifests();
  all.delete([named("two")]);
  await write([entry("one"), "kind: [", entry("two")].join("---\n"));
  expect(all.problems.length).toBeGreaterThan(0);
  expect(seenNames(all)).toEqual(["one", "three"]);
  rmSync(file);
  await clock.advance(6_000);
  expect(seenNames(all)).toEqual([]);
});

function seenNames(all: Manifests): readonly string[] {
  return [...all.resources.values()].flatMap((one) => (one.kind === "ServiceEntry" ? [one.metadata.name] : [])).sort();
}
