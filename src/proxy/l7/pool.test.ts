import { createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../base/index.ts";
import type { ClientConnection } from "./message.ts";
import { Pools } from "./pool.ts";
import { Sweeper } from "./sweeper.ts";
import { TestUpstream } from "./testing/rig.ts";

async function poolOf() {
  const server = createServer((socket) => void socket.on("error", () => {}));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const upstream = new TestUpstream("app", [(server.address() as { port: number }).port]);
  const pools = new Pools(systemClock, new Sweeper(systemClock));
  onTestFinished(() => {
    pools.closeAll();
    server.close();
  });
  const pool = pools.of(upstream);
  const acquire = () => pool.acquire(upstream.endpoints[0]!, "http1") as Promise<ClientConnection>;
  /** As a request that is gone before its connection is there. */
  const askAndLeave = () => {
    const acquiring = acquire();
    pool.abandon(acquiring);
    acquiring.then(
      (ready) => ready.release(),
      () => {},
    );
  };
  return { upstream, acquire, askAndLeave };
}

test("requests that leave before their connection is made have one made, not one each", async () => {
  const { upstream, acquire, askAndLeave } = await poolOf();
  for (let i = 0; i < 100; i++) askAndLeave();
  expect(upstream.connects).toBe(1);
  await acquire();
  expect(upstream.connects).toBe(1);
});

test("requests that stay have one made each, also beside some that left", async () => {
  const { upstream, acquire, askAndLeave } = await poolOf();
  askAndLeave();
  const connections = await Promise.all([acquire(), acquire(), acquire()]);
  expect(new Set(connections).size).toBe(3);
  expect(upstream.connects).toBe(3);
});

test("a request is served although the connection that it waited for could not be made", async () => {
  const { upstream, acquire, askAndLeave } = await poolOf();
  const { connect } = upstream;
  upstream.connect = (endpoint, ...more) => {
    upstream.connect = connect;
    upstream.connects++;
    return new Promise((_, reject) =>
      setImmediate(() => reject(new Error(`no way to ${endpoint.key} ${more.length}`))),
    );
  };
  askAndLeave();
  expect(await acquire()).toBeDefined();
  expect(upstream.connects).toBe(2);
});
