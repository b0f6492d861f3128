import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ClusterSchema } from "../../src/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { typeUrls } from "../../src/proto/index.ts";
import { snapshotFor } from "../../src/xds/index.ts";
import { needs } from "../requirements.ts";
import { deprecatedIn } from "../scenarios/deprecated.ts";
import { type Scene, sampleScenes, scenarioScenes } from "../scenarios/still-life.ts";
import { bootstrap, contentOf, refusalOf } from "./verdict.ts";

/** What some proxy of some scenario is told, with where it was seen first. */
interface Told {
  readonly where: string;
  readonly kind: "clusters" | "listeners";
  readonly json: JsonObject;
}

const work = mkdtempSync(join(tmpdir(), "isthmus-validate-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Everything that is different from everything else: thousands of snapshots have few hundred parts between them. */
const told = new Map<string, Told>();
const deprecated = new Map<string, string>();
let snapshots = 0;

beforeAll(() => {
  const seen = new Set<string>();
  for (const scenes of [scenarioScenes(), sampleScenes()]) for (const scene of scenes) gather(scene, seen);
}, 120_000);

function gather({ name, cluster, mesh, nodes }: Scene, seen: Set<string>): void {
  for (const [workload, node] of nodes) {
    const where = `${name}, ${cluster}/${workload}`;
    const snapshot = snapshotFor(mesh, node);
    snapshots++;
    let news = false;
    for (const [type, resources] of snapshot) {
      for (const { bytes } of resources.values()) {
        const hash = hashOf(bytes);
        if (seen.has(hash)) continue;
        seen.add(hash);
        news = true;
        for (const field of deprecatedIn(type, bytes)) if (!deprecated.has(field)) deprecated.set(field, where);
      }
    }
    if (!news) continue;
    const content = contentOf(snapshot);
    for (const kind of ["clusters", "listeners"] as const) {
      for (const json of content[kind]) {
        const hash = hashOf(JSON.stringify(json));
        if (!told.has(hash)) told.set(hash, { where, kind, json });
      }
    }
  }
}

function hashOf(content: Uint8Array | string): string {
  return createHash("sha256").update(content).digest("base64");
}

/** All of it in one proxy: names and addresses made different, so that only what is in them counts. */
function together(parts: readonly Told[]): JsonObject {
  const clusters: JsonObject[] = [];
  const listeners: JsonObject[] = [];
  for (const [index, { kind, json, where }] of parts.entries()) {
    const name = `${String(json["name"])} of ${where} #${index}`;
    if (kind === "clusters") clusters.push({ ...json, name, altStatName: "same" });
    else {
      const { additionalAddresses: _, ...rest } = json;
      const address = { socketAddress: { address: "127.0.0.1", portValue: 10_000 + index } };
      listeners.push({ ...(withoutClusterCheck(rest) as JsonObject), name, address });
    }
  }
  return bootstrap({ id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local", clusters, listeners });
}

/** The clusters that routes name have other names here. */
function withoutClusterCheck(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withoutClusterCheck);
  if (typeof value !== "object" || value === null) return value;
  const inner = Object.fromEntries(Object.entries(value).map(([key, part]) => [key, withoutClusterCheck(part)]));
  return "routeConfig" in inner
    ? { ...inner, routeConfig: { ...(inner["routeConfig"] as JsonObject), validateClusters: false } }
    : inner;
}

test("Envoy accepts all that any proxy is told in any scenario or sample, and finds nothing deprecated", async (context) => {
  needs(context, "envoy");
  expect(snapshots).toBeGreaterThan(300);
  const parts = [...told.values()];
  const refusal = await refusalOf(together(parts), { name: "all", work });
  if (refusal === undefined) return;
  // Which it is about: asked only when there is something to tell.
  const culprits = await refused(parts);
  throw new Error(`${culprits.map(({ where, kind }) => `${kind} of ${where}`).join("\n")}\n${refusal}`);
}, 300_000);

/** The parts that are refused by themselves, found by halving. */
async function refused(parts: readonly Told[]): Promise<readonly Told[]> {
  if ((await refusalOf(together(parts), { name: "some", work })) === undefined) return [];
  if (parts.length === 1) return parts;
  const middle = parts.length >> 1;
  return [...(await refused(parts.slice(0, middle))), ...(await refused(parts.slice(middle)))];
}

test("what is told has a part that is refused, so that the verdict above is one", async (context) => {
  needs(context, "envoy");
  const [part] = told.values();
  const wrong: Told = { ...part!, where: "here", json: { ...part!.json, unheardOf: {} } };
  expect(await refused([...told.values()].slice(0, 7).concat(wrong))).toEqual([wrong]);
});

test("no field that Envoy calls deprecated is set in anything that any proxy is told", () => {
  expect([...deprecated]).toEqual([]);
});

test("a deprecated field is found where there is one", () => {
  const cluster = create(ClusterSchema, { name: "a", maxRequestsPerConnection: 1 });
  expect(deprecatedIn(typeUrls.cluster, toBinary(ClusterSchema, cluster))).toEqual([
    "envoy.config.cluster.v3.Cluster.max_requests_per_connection",
  ]);
});
