import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../../base/index.ts";
import { typeUrls } from "../../proto/index.ts";
import type { Secrets } from "../config/secret.ts";
import { ConfigStore } from "../config/store.ts";
import { listener, staticCluster, tcpProxy } from "../testdata/resources.ts";
import { dial, echo, readAll, readBytes } from "../testdata/scene.ts";
import type { Begin, FromWorker, ToWorker } from "./messages.ts";
import { runWorker } from "./run-worker.ts";
import { handleBinder } from "./shared-sockets.ts";
import { type StartWorker, startWorkers, type Workers } from "./workers.ts";

/** A worker in this process, everything that goes to and fro copied as between processes. Handles are real. */
const inMemory: StartWorker = (_worker, on) => {
  const scope = new Scope();
  let receive: ((message: ToWorker, handle: unknown) => void) | undefined;
  const say = (message: FromWorker) => setImmediate(() => on.message(structuredClone(message)));
  const end = () => void scope.close().then(() => on.ended("was ended"));
  const begin = (message: Begin) =>
    runWorker(
      message,
      {
        primary: {
          send: say,
          onMessage: (next) => {
            receive = next;
          },
        },
        clock: systemClock,
        random: Math.random,
        log: silentLogger,
        metrics: new Metrics(),
        onStop: (deadline) => void scope.close({ deadline }).then(() => on.ended("exited with code 0")),
      },
      scope,
    );
  return {
    pid: undefined,
    send: (message, handle) => {
      const copy = structuredClone(message);
      setImmediate(() => (copy.kind === "begin" ? void begin(copy) : receive?.(copy, handle)));
    },
    kill: end,
  };
};

async function scene() {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  let workers: Workers | undefined;
  const store = new ConfigStore({
    clock: systemClock,
    log: silentLogger,
    onTaken: (...taken) => workers?.onTaken(...taken),
  });
  const target = await echo();
  store.apply(typeUrls.cluster, [staticCluster("echo", [target])], []);
  const echoing = (name: string) => listener(name, { filterChains: [{ filters: [tcpProxy("echo")] }] });
  store.apply(typeUrls.listener, [echoing("first")], []);
  const metrics = new Metrics();
  workers = startWorkers(
    {
      count: 1,
      settings: { redirected: false, captured: [] },
      start: inMemory,
      bind: handleBinder()!,
      clock: systemClock,
      random: Math.random,
      log: silentLogger,
      metrics,
      store,
      secrets: new Cell<Secrets>(new Map()),
      resolve: () => Promise.reject(new Error("no names here")),
      resolveDestination: () => Promise.resolve([]),
    },
    scope,
  );
  const running = workers;
  const at = async (name: string) => {
    const address = await expect
      .poll(() => running.listeners().find((one) => one.name === name)?.addresses[0], { timeout: 5000 })
      .toBeDefined()
      .then(() => running.listeners().find((one) => one.name === name)!.addresses[0]!);
    return { ip: "127.0.0.1" as never, port: Number(address.split(":")[1]) };
  };
  return { scope, store, workers: running, at, echoing };
}

const ends = (socket: Socket) => new Promise<void>((resolve) => void socket.once("close", () => resolve()));

test("a worker serves what the first process was told, on a socket that it bound", async () => {
  const { workers, at } = await scene();
  const socket = await dial(await at("first"));
  socket.end("hello");
  expect(await readAll(socket)).toEqual({ text: "hello", error: undefined });
  expect(await workers.metricsText()).toContain('isthmus_proxy_connections_total{listener="first"} 1');
  expect((await workers.views()).clusters).toMatchObject([{ name: "echo", endpoints: [{ health: "healthy" }] }]);
});

test("a change of configuration arrives, and connections that run are not touched", async () => {
  const { store, at, echoing } = await scene();
  const before = await dial(await at("first"));
  store.apply(typeUrls.listener, [echoing("second")], []);
  const after = await dial(await at("second"));
  for (const socket of [before, after]) {
    socket.write("still");
    expect((await readBytes(socket, 5)).toString()).toBe("still");
  }
});

test("stopping lets connections finish, and takes none meanwhile", async () => {
  const { scope, at } = await scene();
  const where = await at("first");
  const socket = await dial(where);
  socket.write("one");
  await readBytes(socket, 3);
  const closing = scope.close({ drainMs: 5000, clock: systemClock });
  const refused = connect(where.port, where.ip);
  await new Promise<void>((resolve) => void refused.once("error", () => resolve()));
  socket.write("two");
  expect((await readBytes(socket, 3)).toString()).toBe("two");
  socket.end();
  socket.resume();
  await ends(socket);
  await closing;
});

test("the deadline cuts off what does not finish", async () => {
  const { scope, at } = await scene();
  const socket = await dial(await at("first"));
  socket.write("x");
  await readBytes(socket, 1);
  socket.resume();
  const gone = new Promise<void>((resolve) => void socket.once("end", resolve));
  await scope.close({ drainMs: 50, clock: systemClock });
  await gone;
});
