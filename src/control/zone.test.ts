import { mkdirSync } from "node:fs";
import { expect, test } from "vitest";
import { Cell, Scope, silentLogger } from "../base/index.ts";
import { resolve } from "../dns/index.ts";
import { buildMesh, defaultMeshSettings, type Mesh, namesFor } from "../model/index.ts";
import { readResources } from "../resources/index.ts";
import { ResourceStore } from "../sources/index.ts";
import { entry, folders, running } from "./testdata/scene.ts";
import { keepingSame, startZone } from "./zone.ts";

const settings = { ...defaultMeshSettings, cluster: "cluster1" };

/** Meshes of one store, one after the other, as the pipeline builds them. */
function meshes() {
  const store = new ResourceStore();
  const layer = store.layer({ name: "test" });
  let mesh: Mesh | undefined;
  return (files: Readonly<Record<string, string>>): Mesh => {
    layer.apply(
      Object.entries(files).map(([file, text]) => ({
        unit: file,
        reading: text === "" ? undefined : readResources(text, { file, cluster: "cluster1" }),
      })),
    );
    mesh = buildMesh({ view: store.view.value.byKind, settings, ...(mesh ? { previous: mesh } : {}) });
    return mesh;
  };
}

const a = (endpoint: string, vip = "240.0.0.2") => entry({ host: "a.bar.global", vip, endpoint });
const b = entry({ host: "b.bar.global", vip: "240.0.0.3" });

test("a change behind a name leaves the zone as it is, a change of what it answers does not", () => {
  const build = meshes();
  const mesh = new Cell(build({ a: a("10.0.0.1"), b }));
  const scope = new Scope();
  const zone = startZone({ mesh, settings, log: silentLogger }, scope);
  const first = zone.value;
  mesh.set(build({ a: a("10.0.0.9") }));
  expect(zone.value).toBe(first);
  mesh.set(build({ a: a("10.0.0.9", "240.0.0.7") }));
  expect(zone.value).not.toBe(first);
  expect(zone.value.serial).toBe(first.serial + 1);
  expect(resolve(zone.value, "a.bar.global", "A")).toMatchObject({
    kind: "records",
    set: { addresses: ["240.0.0.7"] },
  });
  // The other name's records are the very same ones, and with them their encoding.
  expect(zone.value.exact.get("b.bar.global")).toBe(first.exact.get("b.bar.global"));
  mesh.set(build({ a: "" }));
  expect(resolve(zone.value, "a.bar.global", "A").kind).toBe("no-name");
});

test("a name keeps its object when others come before it or go", () => {
  const build = meshes();
  const before = namesFor(build({ b }));
  const both = keepingSame(before, namesFor(build({ a: a("10.0.0.1"), b: `${b}\n` })));
  expect(both).toHaveLength(2);
  expect(both[1]).toBe(before[0]);
  expect(keepingSame(both, namesFor(build({ a: "" })))).toEqual(before);
  expect(keepingSame(before, [...before])).toBe(before);
});

test("names of the mesh are ours also when they are not there; others are not", async () => {
  const at = folders();
  mkdirSync(at.config);
  const plane = await running(at);
  const scope = new Scope();
  const zone = startZone({ mesh: plane.mesh, settings, log: silentLogger }, scope);
  expect(resolve(zone.value, "nothing.bar.global", "A").kind).toBe("no-name");
  expect(resolve(zone.value, "nothing.bar.svc.cluster.local", "A").kind).toBe("no-name");
  expect(resolve(zone.value, "example.com", "A").kind).toBe("not-ours");
  await scope.close();
});
