import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { silentLogger } from "../src/base/index.ts";
import { ConfigStore } from "../src/proxy/index.ts";
import { FakeClock } from "../src/testing/index.ts";
import { snapshotFor } from "../src/xds/index.ts";
import { meshOf, nodeOf } from "../src/xds/testdata/sample.ts";

describe("every snapshot that the compiler makes for its examples is taken without a refusal", () => {
  const root = join(import.meta.dirname, "../src/xds/testdata");
  for (const name of readdirSync(root)) {
    const dir = join(root, name);
    if (!existsSync(join(dir, "in.yaml"))) continue;
    const { settings = {}, ...proxies } = JSON.parse(readFileSync(join(dir, "proxies.json"), "utf8")) as {
      settings?: object;
    } & Record<string, { id: string; metadata?: never }>;
    const mesh = meshOf(readFileSync(join(dir, "in.yaml"), "utf8"), settings);
    for (const [proxy, { id, metadata }] of Object.entries(proxies)) {
      const node = nodeOf(id, metadata);
      // A client without a proxy gets listeners of another kind.
      if (JSON.stringify(node).includes('"grpc"')) continue;
      test(`${name}: ${proxy}`, () => {
        const store = new ConfigStore({ clock: new FakeClock(), log: silentLogger });
        for (const [type, resources] of snapshotFor(mesh, node))
          expect(store.apply(type, [...resources.values()], [])).toEqual([]);
        const { active, wanted } = store;
        expect([...wanted.value.routes].filter((route) => !active.value.routes.has(route))).toEqual([]);
        expect([...wanted.value.endpoints].filter((each) => !active.value.endpoints.has(each))).toEqual([]);
        store.stop();
      });
    }
  }
});
