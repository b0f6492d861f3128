import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Cell, type Logger, silentLogger } from "../base/index.ts";
import { buildMesh, defaultMeshSettings, type Mesh } from "../model/index.ts";
import { NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { ResourceStore } from "../sources/index.ts";
import { readNode } from "../xds/index.ts";
import { nodeSnapshots } from "./node-snapshots.ts";

const build = () =>
  buildMesh({
    view: new ResourceStore().view.value.byKind,
    settings: { ...defaultMeshSettings, cluster: "cluster1" },
  });

function nodeOf() {
  const read = readNode(create(NodeSchema, { id: "sidecar~10.0.0.1~sleep.foo~foo.svc.cluster.local" }));
  if (!read.ok) throw new Error(read.reason);
  return read.node;
}

/** A mesh that tells when it is looked at, and throws then if it is broken. */
function watched(looked: () => void): Mesh {
  return new Proxy(build(), {
    get(mesh, key) {
      looked();
      return Reflect.get(mesh, key);
    },
  });
}

test("a change tells that there is news, and what it is is made when it is asked for, once", () => {
  let looks = 0;
  const mesh = new Cell(build());
  const source = nodeSnapshots(mesh, { node: nodeOf(), log: silentLogger });
  let news = 0;
  const stop = source.subscribe(() => news++);
  const first = source.value;
  mesh.set(watched(() => looks++));
  mesh.set(watched(() => looks++));
  expect({ news, looks }).toEqual({ news: 2, looks: 0 });
  const second = source.value;
  expect(second).not.toBe(first);
  const after = looks;
  expect(after).toBeGreaterThan(0);
  expect(source.value).toBe(second);
  expect(looks).toBe(after);
  stop();
  mesh.set(build());
  expect(news).toBe(2);
});

test("what cannot be made is said once, and the last good one stays until the next change", () => {
  const said: string[] = [];
  const log: Logger = { ...silentLogger, error: (_fields, event) => said.push(event) };
  const mesh = new Cell(build());
  const source = nodeSnapshots(mesh, { node: nodeOf(), log });
  const good = source.value;
  mesh.set(
    watched(() => {
      throw new Error("BUG");
    }),
  );
  expect(source.value).toBe(good);
  expect(source.value).toBe(good);
  expect(said).toEqual(["configuration not made, the proxy keeps its last one"]);
  mesh.set(build());
  expect(source.value).not.toBe(good);
});
