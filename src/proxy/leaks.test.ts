import { expect, test } from "vitest";
import { systemClock } from "../base/index.ts";
import { TestRoot } from "./testdata/certificates.ts";
import {
  clientTls,
  inspectors,
  listener,
  milliseconds,
  serverTls,
  staticCluster,
  tcpProxy,
} from "./testdata/resources.ts";
import { dial, echo, readAll, scene } from "./testdata/scene.ts";

/** Sockets, servers and timers that keep this process alive, by kind. */
function alive(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo())
    if (/^(TCP|TLS|Timeout)/.test(kind)) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

test("after a proxy stopped nothing of it is left: no socket, no server, no timer", async () => {
  const root = await TestRoot.make();
  const target = await echo();
  const before = alive();
  const secrets = { default: await root.workload("bar", "httpbin"), ROOTCA: root.trust };
  const serving = await scene(
    {
      clusters: [staticCluster("echo", [target])],
      listeners: [
        listener("in", {
          listenerFilters: inspectors("tls_inspector"),
          listenerFiltersTimeout: milliseconds(60_000),
          filterChains: [
            { transportSocket: serverTls(), filters: [tcpProxy("echo", { idleTimeout: milliseconds(60_000) })] },
          ],
        }),
      ],
    },
    { secrets },
  );
  const calling = await scene(
    {
      clusters: [staticCluster("out", [serving.at("in")], { transportSocket: clientTls({ sni: "s" }) })],
      listeners: [
        listener("out", { filterChains: [{ filters: [tcpProxy("out", { idleTimeout: milliseconds(60_000) })] }] }),
      ],
    },
    { secrets },
  );
  for (let i = 0; i < 10; i++) {
    const socket = await dial(calling.at("out"));
    socket.end("x");
    expect((await readAll(socket)).text).toBe("x");
  }
  // Some that are in the middle of it: silent before the hello, open in both proxies.
  const silent = await dial(serving.at("in"));
  const open = await dial(calling.at("out"));
  open.write("y");
  await new Promise((resolve) => open.once("data", resolve));
  expect(serving.proxy.open).toBeGreaterThan(0);
  await calling.scope.close({ drainMs: 50, clock: systemClock });
  await serving.scope.close();
  silent.destroy();
  open.destroy();
  // The test runner's own timers may go meanwhile; nothing may come.
  const more = () => Object.entries(alive()).filter(([kind, count]) => count > (before[kind] ?? 0));
  await until(() => more().length === 0);
  expect(more()).toEqual([]);
  expect([calling.proxy.open, serving.proxy.open]).toEqual([0, 0]);
});
