import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { snapshotFor } from "../../src/xds/index.ts";
import { meshOf, nodeOf } from "../../src/xds/testdata/sample.ts";
import { needs } from "../requirements.ts";
import { bootstrapOf, refusalOf } from "./verdict.ts";

const root = join(import.meta.dirname, "../../src/xds/testdata");
const work = mkdtempSync(join(tmpdir(), "isthmus-validate-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

interface Proxies {
  readonly settings?: Readonly<Record<string, string>>;
  readonly [proxy: string]: { readonly id: string; readonly metadata?: JsonObject } | unknown;
}

// What a gRPC client without a proxy is told is none of Envoy's.
const cases = readdirSync(root).filter((name) => existsSync(join(root, name, "in.yaml")) && name !== "grpc");

describe.each(cases)("Envoy accepts what is made of the example %s", (name) => {
  const read = (file: string) => readFileSync(join(root, name, file), "utf8");
  const { settings = {}, ...proxies } = JSON.parse(read("proxies.json")) as Proxies;
  for (const [proxy, described] of Object.entries(proxies)) {
    const { id, metadata } = described as { id: string; metadata?: JsonObject };
    test(`for ${proxy}`, async (context) => {
      needs(context, "envoy");
      const snapshot = snapshotFor(meshOf(read("in.yaml"), settings), nodeOf(id, metadata));
      expect(await refusalOf(bootstrapOf(id, snapshot), { name: `${name}-${proxy}`, work })).toBeUndefined();
    });
  }
});

test("a field that Envoy does not know is refused, so that the verdicts above are verdicts", async (context) => {
  needs(context, "envoy");
  const bootstrap = { ...bootstrapOf("sidecar~10.0.0.1~a.b~b.svc.cluster.local", new Map()), unheardOf: {} };
  expect(await refusalOf(bootstrap, { name: "wrong", work })).toMatch(/unheardOf/);
});
