import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Metrics, Scope, silentLogger } from "../../../base/index.ts";
import { FakeClock, scratchDir } from "../../../testing/index.ts";
import { resourcesIn } from "./dump.ts";
import { type EnvoyProcess, hasOpenConnections, readLogLine, startEnvoyProcess } from "./process.ts";
import { listenersDown } from "./readiness.ts";

test("a line of Envoy's log keeps its level, its logger and its text, tabs and all", () => {
  expect(readLogLine("warning\tconfig\tgRPC\tstream closed")).toEqual({
    level: "warn",
    logger: "config",
    text: "gRPC\tstream closed",
  });
  expect(readLogLine("  second line of a message")).toEqual({
    level: "info",
    logger: "",
    text: "  second line of a message",
  });
  expect(readLogLine("toString\tx\ty")).toMatchObject({ level: "info" });
});

const stats = (counts: Record<string, number>) =>
  Object.entries(counts)
    .map(([name, count]) => `listener_manager.${name}: ${count}`)
    .join("\n");
const up = { "lds.update_rejected": 0, "lds.update_success": 1, total_listeners_warming: 0, workers_started: 1 };
const rows: ReadonlyArray<{ it: string; counts: Record<string, number>; says: RegExp | undefined }> = [
  { it: "told and warm is up", counts: up, says: undefined },
  { it: "nothing told is not up", counts: { ...up, "lds.update_success": 0 }, says: /no configuration yet/ },
  {
    it: "refused is said as such",
    counts: { ...up, "lds.update_success": 0, "lds.update_rejected": 2 },
    says: /refused the listeners/,
  },
  { it: "warming is not up", counts: { ...up, total_listeners_warming: 2 }, says: /^2 listeners wait/ },
  { it: "without workers it is not up", counts: { ...up, workers_started: 0 }, says: /workers/ },
  { it: "an empty answer is not up", counts: {}, says: /no configuration yet/ },
];
for (const { it, counts, says } of rows) {
  test(`listeners: ${it}`, () => {
    const why = listenersDown(stats(counts));
    if (says) expect(why).toMatch(says);
    else expect(why).toBeUndefined();
  });
}

test("connections are open while any listener but the admin's has one", () => {
  const counted = (open: number, admin: number) =>
    [
      `listener.0.0.0.0_15006.downstream_cx_active: ${open}`,
      `listener.0.0.0.0_15006.worker_0.downstream_cx_active: ${open}`,
      `listener.admin.downstream_cx_active: ${admin}`,
      `listener.admin.main_thread.downstream_cx_active: ${admin}`,
    ].join("\n");
  expect(hasOpenConnections(counted(0, 3))).toBe(false);
  expect(hasOpenConnections(counted(10, 1))).toBe(true);
  expect(hasOpenConnections("")).toBe(false);
});

test("a configuration dump of Envoy's reads like the embedded proxy's, without secrets", () => {
  const listener = {
    "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
    name: "0.0.0.0_15443",
    filter_chains: [{ name: "a" }],
    field_of_a_newer_version: 1,
  };
  const dump = {
    configs: [
      {
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        version_info: "7",
        dynamic_listeners: [
          { name: "0.0.0.0_15443", active_state: { version_info: "8", listener }, warming_state: { listener } },
        ],
      },
      {
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        dynamic_active_secrets: [
          {
            name: "default",
            secret: {
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
              name: "default",
            },
          },
        ],
      },
    ],
  };
  const type = listener["@type"];
  const resource = { name: "0.0.0.0_15443", filterChains: [{ name: "a" }] };
  expect(resourcesIn(dump)).toEqual([
    { type, name: "0.0.0.0_15443", version: "8", state: "active", resource },
    { type, name: "0.0.0.0_15443", version: "7", state: "warming", resource },
  ]);
});

/** A program in Envoy's place; it is run as Envoy would be. */
async function supervised(script: string, scope: Scope, clock: FakeClock): Promise<EnvoyProcess> {
  const dir = scratchDir();
  const binary = join(dir, "envoy");
  writeFileSync(binary, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const output = openSync(join(dir, "stdout"), "w");
  scope.defer(() => closeSync(output));
  const options = {
    binary,
    bootstrapFile: join(dir, "bootstrap.json"),
    admin: { path: join(dir, "admin.sock") },
    output,
    concurrency: 1,
    logLevel: "warning",
  };
  return startEnvoyProcess(options, { clock, random: () => 0.5, log: silentLogger, metrics: new Metrics() }, scope);
}
async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !holds(); await new Promise((resolve) => setTimeout(resolve, 10)))
    if (performance.now() > end) throw new Error("waited in vain");
}

test("an Envoy that cannot start says its last words, and is tried again after a wait", async () => {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const clock = new FakeClock();
  const words = "cannot bind '127.0.0.1:15000': Address already in use";
  const started = join(scratchDir(), "started");
  const script = `echo x >> ${started}\nprintf "critical\\tmain\\t${words}\\n" >&2\nexit 1`;
  const envoy = await supervised(script, scope, clock);
  const starts = () => readFileSync(started, "utf8").length / 2;
  await until(() => envoy.down !== undefined);
  expect(envoy.down).toBe(`Envoy ended with exit code 1: ${words}`);
  expect(starts()).toBe(1);
  // Nothing happens before the wait is over.
  clock.advance(10);
  expect(starts()).toBe(1);
  clock.advance(1_000);
  await until(() => starts() === 2 && envoy.down !== undefined);
});

test("an Envoy that does not end when it is asked to is ended", async () => {
  const scope = new Scope();
  const clock = new FakeClock();
  const envoy = await supervised(`trap "" TERM\nwhile :; do sleep 0.05; done`, scope, clock);
  expect(envoy.down).toBeUndefined();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const closing = scope.close();
  let closed = false;
  void closing.then(() => {
    closed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(closed).toBe(false);
  clock.advance(5_000);
  await closing;
});
