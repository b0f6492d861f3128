import { create } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { Failure, Metrics, Scope, silentLogger } from "../../base/index.ts";
import { NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { typeUrls } from "../../proto/index.ts";
import { FakeClock } from "../../testing/index.ts";
import { ConfigStore } from "../config/store.ts";
import { httpManager, listener, routes, socketAddress } from "../testdata/resources.ts";
import { prepareDiscovery } from "./discovery.ts";
import type { KeptConfiguration } from "./kept-state.ts";
import { Names } from "./names.ts";

const told = [typeUrls.cluster, typeUrls.listener, typeUrls.names];
const http = (name: string, routesName: string, port: number) =>
  listener(name, { address: socketAddress("0.0.0.0", port), filterChains: [{ filters: [httpManager(routesName)] }] });

/** Discovery whose control plane is not there. */
function scene(kept: KeptConfiguration | undefined) {
  const clock = new FakeClock();
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const store = new ConfigStore({ clock, log: silentLogger });
  let read: (() => Omit<KeptConfiguration, "savedMs"> | undefined) | undefined;
  const discovery = prepareDiscovery(
    {
      target: "127.0.0.1:1",
      node: () => create(NodeSchema, { id: "test" }),
      store,
      names: new Names({ suffixes: [], searches: [] }),
      kept,
      onChange: (now) => {
        read = now;
      },
      clock,
      random: () => 0.5,
      log: silentLogger,
      metrics: new Metrics(),
    },
    scope,
  );
  return { clock, store, discovery, toKeep: () => read?.()?.resources.map(({ name }) => name) };
}

test("what was kept is in force before anybody is asked, in an order in which each part finds the others", () => {
  const kept = {
    savedMs: 0,
    told,
    resources: [
      { type: typeUrls.route, version: "1", ...routes("8000", "c") },
      { type: typeUrls.listener, version: "1", ...http("l", "8000", 8000) },
    ],
  } as const;
  const { store, discovery } = scene(kept);
  expect([...store.active.value.listeners.keys()]).toEqual(["l"]);
  expect([...discovery.told]).toEqual(told);
});

test("what cannot be read any more is left out, and the rest counts", () => {
  const { store } = scene({
    savedMs: 0,
    told,
    resources: [
      { type: typeUrls.listener, version: "1", name: "broken", bytes: new Uint8Array([255, 255, 255]) },
      { type: typeUrls.route, version: "1", ...routes("8000", "c") },
      { type: typeUrls.listener, version: "1", ...http("l", "8000", 8000) },
    ],
  });
  expect([...store.active.value.listeners.keys()]).toEqual(["l"]);
});

test("a change of which half is still to come is not kept, nor is anything before all of it was told", () => {
  const { store, discovery, toKeep, clock } = scene({ savedMs: 0, told, resources: [] });
  discovery.start({ kind: "plaintext" });
  store.apply(typeUrls.listener, [http("l", "8000", 8000)], []);
  expect(toKeep()).toBeUndefined();
  store.apply(typeUrls.route, [routes("8000", "c")], []);
  expect(toKeep()).toEqual(["l", "8000"]);
  store.apply(typeUrls.listener, [http("m", "never", 8001)], []);
  expect(toKeep()).toBeUndefined();
  // What never comes is not waited for.
  clock.advance(15_000);
  expect(toKeep()).toEqual(["l", "m", "8000"]);

  const fresh = scene(undefined);
  fresh.discovery.start({ kind: "plaintext" });
  fresh.store.apply(typeUrls.route, [routes("8000", "c")], []);
  fresh.store.apply(typeUrls.listener, [http("l", "8000", 8000)], []);
  expect(fresh.toKeep()).toBeUndefined();
});

test("why the control plane does not answer is told while it does not", async () => {
  const { discovery } = scene(undefined);
  expect(discovery.failure).toBeUndefined();
  discovery.start({ kind: "plaintext" });
  await expect.poll(() => discovery.failure, { interval: 10, timeout: 5_000 }).toBeInstanceOf(Failure);
});
