import { expect, test } from "vitest";
import { type Logger, Metrics, Scope, silentLogger } from "../base/index.ts";
import { defaultMeshSettings, type Mesh } from "../model/index.ts";
import { readResources } from "../resources/index.ts";
import { type ByKind, ResourceStore } from "../sources/index.ts";
import { FakeClock } from "../testing/index.ts";
import { startPipeline } from "./pipeline.ts";
import { entry } from "./testdata/scene.ts";

function pipeline() {
  const clock = new FakeClock();
  const store = new ResourceStore();
  const layer = store.layer({ name: "test" });
  const scope = new Scope();
  const said: string[] = [];
  const log: Logger = { ...silentLogger, error: (_fields, event) => said.push(event) };
  const settings = { ...defaultMeshSettings, cluster: "cluster1" };
  const { mesh, flush } = startPipeline({ store, settings, clock, log, metrics: new Metrics() }, scope);
  const seen: Mesh[] = [];
  mesh.subscribe((now) => seen.push(now));
  const write = (name: string) => {
    const text = entry({ host: `${name}.bar.global` });
    layer.apply([{ unit: name, reading: readResources(text, { file: name, cluster: "cluster1" }) }]);
  };
  return { clock, store, scope, said, mesh, flush, seen, write };
}

test("a burst of changes is one mesh, with all of them in it", () => {
  const { clock, mesh, seen, write } = pipeline();
  for (const name of ["a", "b", "c"]) write(name);
  expect(seen).toEqual([]);
  clock.advance(100);
  expect(seen).toHaveLength(1);
  expect([...mesh.value.services.keys()]).toEqual(["a.bar.global", "b.bar.global", "c.bar.global"]);
});

test("whoever cannot wait for quiet gets the mesh at once, and only one", () => {
  const { clock, flush, seen, write } = pipeline();
  write("a");
  flush();
  expect(seen).toHaveLength(1);
  flush();
  clock.advance(1000);
  expect(seen).toHaveLength(1);
});

test("changes that never rest are seen all the same, within half a second", () => {
  const { clock, seen, write } = pipeline();
  for (let i = 0; i < 60; i++) {
    write(`s${i}`);
    clock.advance(10);
  }
  expect(seen).toHaveLength(1);
});

test("a build that fails is said, the last mesh stays, and the next change is taken", () => {
  const { clock, store, said, mesh, seen, write } = pipeline();
  write("a");
  clock.advance(100);
  const good = mesh.value;
  const broken = new Proxy({} as ByKind, {
    get() {
      throw new Error("BUG: broken");
    },
  });
  store.view.set({ ...store.view.value, byKind: broken });
  clock.advance(100);
  expect(said).toEqual(["mesh not rebuilt, the last one stays"]);
  expect(mesh.value).toBe(good);
  store.view.set({ ...store.view.value, byKind: new ResourceStore().view.value.byKind });
  clock.advance(100);
  expect(seen).toHaveLength(2);
  expect(mesh.value.services.size).toBe(0);
});

test("nothing is built any more when the scope has closed", async () => {
  const { clock, scope, seen, write } = pipeline();
  write("a");
  await scope.close();
  write("b");
  clock.advance(1_000);
  expect(seen).toEqual([]);
  expect(clock.pending).toBe(0);
});
