import { expect, test } from "vitest";
import { createAdsServer, startGrpcServer } from "../ads/index.ts";
import { Cell, Metrics, silentLogger, systemClock } from "../base/index.ts";
import type { Snapshot } from "../proto/index.ts";
import { FakeClock } from "../testing/index.ts";
import { certificateOf, folders, free, loopback, proxyOn, running, secured, testScope } from "./testdata/scene.ts";

const quick = { timeout: 8_000, interval: 10 };

test("who retires is not ready at once, has sent its proxies elsewhere in the end, and takes none back", async () => {
  const at = folders();
  const plane = await running(at, { configDirs: [], health: free });
  const security = secured(await certificateOf(at, "spiffe://cluster.local/ns/foo/sa/sleep"));
  const { client } = proxyOn({ target: `127.0.0.1:${plane.ports.secure}`, security, scope: testScope() });
  await expect.poll(() => client.state.value.phase, quick).toBe("connected");
  const retired = plane.retire(600);
  const health = await fetch(`http://127.0.0.1:${plane.ports.health}/ready`);
  expect(health.status).toBe(503);
  expect(plane.ads.connections()).toHaveLength(1);
  await retired;
  // Refused again and again, however fast it comes back here.
  const refusedAgain = () => {
    const state = client.state.value;
    return state.phase === "waiting" && state.attempt >= 3 ? state.failure?.code : state.phase;
  };
  await expect.poll(refusedAgain, quick).toBe("grpc/unavailable");
  expect(plane.ads.connections()).toHaveLength(0);
});

test("proxies are sent away one after the other, over the time that there is", async () => {
  const clock = new FakeClock();
  const scope = testScope();
  const ads = createAdsServer(
    {
      authenticate: () => ({ ok: true }),
      watch: () => new Cell<Snapshot>(new Map()),
      clock,
      log: silentLogger,
      metrics: new Metrics(),
    },
    scope,
  );
  const { port } = await startGrpcServer(
    {
      listen: { ip: loopback, port: 0 },
      security: { kind: "plaintext" },
      services: [ads.serve({ requireCertificate: false })],
      log: silentLogger,
    },
    scope,
  );
  for (let at = 0; at < 4; at++)
    proxyOn({ target: `127.0.0.1:${port}`, security: { kind: "plaintext" }, scope: testScope() });
  await expect.poll(() => ads.connections().length, quick).toBe(4);
  const away = ads.sendAway(4_000);
  for (const left of [3, 2, 1, 0]) {
    await expect.poll(() => ads.connections().length, quick).toBe(left);
    // Time stands still, and nobody else goes.
    await new Promise((resolve) => systemClock.after(30, () => resolve(undefined)));
    expect(ads.connections()).toHaveLength(left);
    await clock.advanceAsync(1_000);
  }
  await away;
});
