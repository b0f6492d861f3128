import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock, until } from "../base/index.ts";
import { NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { type Snapshot, typeUrls, type Versioned } from "../proto/index.ts";
import { startAdsClient } from "./client.ts";
import { startGrpcServer } from "./grpc/server.ts";
import { receiptState } from "./receipts.ts";
import { createAdsServer } from "./server.ts";

const proxies = 200;
const clusters = 100;

function snapshotOf(version: string): Snapshot {
  const made = Array.from({ length: clusters }, (_, i): [string, Versioned] => [
    `c${i}`,
    { name: `c${i}`, version, bytes: Buffer.from(`${i}@${version}`.padEnd(500)), origins: [] },
  ]);
  return new Map([[typeUrls.cluster, new Map(made)]]);
}

test("two hundred proxies that come back in one instant all get what is new, and nothing is sent twice", async () => {
  const scope = new Scope();
  const snapshot = new Cell(snapshotOf("1"));
  const serve = async (within: Scope, port: number) => {
    const ads = createAdsServer(
      {
        authenticate: () => ({ ok: true }),
        watch: () => snapshot,
        clock: systemClock,
        log: silentLogger,
        metrics: new Metrics(),
      },
      within,
    );
    const bound = await startGrpcServer(
      {
        listen: { ip: "127.0.0.1", port },
        security: { kind: "plaintext" },
        services: [ads.serve({ requireCertificate: false })],
        log: silentLogger,
      },
      within,
    );
    return { ads, port: bound.port };
  };
  const before = new Scope();
  const { port } = await serve(before, 0);
  const herd = Array.from({ length: proxies }, (_, i) => {
    const holds = new Cell<ReadonlyMap<string, string>>(new Map());
    let responses = 0;
    const client = startAdsClient(
      {
        target: `127.0.0.1:${port}`,
        security: { kind: "plaintext" },
        node: () => create(NodeSchema, { id: `sidecar~10.0.0.${i}~p${i}.foo~foo.svc.cluster.local` }),
        interests: new Map([[typeUrls.cluster, { all: true, names: new Set<string>() }]]),
        apply: ({ updated }) => {
          responses++;
          holds.set(new Map([...holds.value, ...updated.map(({ name, version }) => [name, version] as const)]));
          return [];
        },
        clock: systemClock,
        random: () => 0,
        log: silentLogger,
        backoff: { firstMs: 600, maxMs: 600 },
      },
      scope.child(),
    );
    return { client, holds, responses: () => responses };
  });
  const all = (version: string) =>
    Promise.all(
      herd.map(({ holds }) =>
        until(holds, (now) => now.size === clusters && [...now.values()].every((each) => each === version)),
      ),
    );
  await all("1");
  await before.close();
  snapshot.set(snapshotOf("2"));
  const lag = loopLag();
  const began = systemClock.monotonic();
  const { ads } = await serve(scope, port);
  await all("2");
  const tookMs = systemClock.monotonic() - began;
  console.log(`${proxies} proxies converged in ${Math.round(tookMs)} ms, longest pause ${Math.round(lag.stop())} ms`);
  await expect.poll(() => ads.receipts.all().filter((one) => receiptState(one) === "synced").length).toBe(proxies);
  expect(ads.receipts.all()).toHaveLength(proxies);
  expect(ads.receipts.all().map(({ sent }) => sent.nonce)).toEqual(Array.from({ length: proxies }, () => "1"));
  expect(herd.every(({ responses }) => responses() === 2)).toBe(true);
  expect(tookMs).toBeLessThan(15_000);
  await scope.close();
}, 30_000);

/** The longest time that the event loop was held up. */
function loopLag() {
  let longest = 0;
  let last = systemClock.monotonic();
  let stopped = false;
  const tick = () => {
    const now = systemClock.monotonic();
    longest = Math.max(longest, now - last - 5);
    last = now;
    if (!stopped) systemClock.after(5, tick, { background: true });
  };
  tick();
  return {
    stop: () => {
      stopped = true;
      return longest;
    },
  };
}
