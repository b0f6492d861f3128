import { expect, test } from "vitest";
import { resourceJson, typeUrls } from "../../../proto/index.ts";
import type { EnvoyResource } from "./dump.ts";
import { keptResources } from "./keep.ts";

function dumped(more: Partial<EnvoyResource> & Pick<EnvoyResource, "type" | "name">): EnvoyResource {
  return { version: "1", state: "active", resource: { name: more.name }, ...more };
}
const listener = dumped({ type: typeUrls.listener, name: "virtualOutbound" });

test("what Envoy runs is kept as messages, but for what it began with, goes, or was refused", () => {
  const kept = keptResources([
    listener,
    dumped({ type: typeUrls.cluster, name: "a", resource: { name: "a", connectTimeout: "10s" } }),
    dumped({ type: typeUrls.cluster, name: "xds-grpc", state: "static" }),
    dumped({ type: typeUrls.listener, name: "old", state: "draining" }),
    dumped({ type: typeUrls.listener, name: "wrong", state: "refused" }),
    dumped({ type: typeUrls.endpoints, name: "a", resource: { clusterName: "a" } }),
  ])!;
  expect(kept.map(({ name, type }) => [type, name])).toEqual([
    [typeUrls.listener, "virtualOutbound"],
    [typeUrls.cluster, "a"],
    [typeUrls.endpoints, "a"],
  ]);
  expect(resourceJson(typeUrls.cluster, kept[1]!.bytes)).toEqual({ name: "a", connectTimeout: "10s" });
  // Told anew by the control plane, whatever it calls what it told last.
  for (const { version } of kept) expect(version).toMatch(/^kept-/);
});

test("while anything waits, or before there is a listener, nothing is kept", () => {
  expect(keptResources([listener, dumped({ type: typeUrls.cluster, name: "a", state: "warming" })])).toBeUndefined();
  expect(keptResources([dumped({ type: typeUrls.cluster, name: "a" })])).toBeUndefined();
});

test("what has a key in it, which Envoy does not show, is not kept", () => {
  const resource = { name: "edge", metadata: { filterMetadata: { a: { key: "[redacted]" } } } };
  const edge = dumped({ type: typeUrls.listener, name: "edge", resource });
  expect(keptResources([listener, edge])!.map(({ name }) => name)).toEqual(["virtualOutbound"]);
});
