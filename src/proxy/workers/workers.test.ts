import { create, toBinary } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { Cell, Failure, Metrics, type MetricsSnapshot, Scope, silentLogger } from "../../base/index.ts";
import { SecretSchema } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { DownstreamTlsContextSchema } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { typeUrls } from "../../proto/index.ts";
import { FakeClock } from "../../testing/index.ts";
import type { Ip } from "../../values/index.ts";
import { certificateSecret, type Secrets, trustSecret } from "../config/secret.ts";
import { ConfigStore } from "../config/store.ts";
import type { ListenerView } from "../proxy.ts";
import { TestRoot } from "../testdata/certificates.ts";
import { any, listener, socketAddress, staticCluster, tcpProxy } from "../testdata/resources.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { startWorkers, type Workers } from "./workers.ts";

const port = (name: string, number: number) =>
  listener(name, { address: socketAddress("127.0.0.1", number), filterChains: [{ filters: [tcpProxy("c")] }] });
const view = (name: string, of: Partial<ListenerView> = {}): ListenerView => ({
  name,
  addresses: ["127.0.0.1:80"],
  bound: true,
  error: undefined,
  chains: [{ name: "", open: 1 }],
  ...of,
});

/** A listener's TLS that needs roots which the control plane tells. */
const toldTls = (name: string) => ({
  name: "envoy.transport_sockets.tls",
  configType: {
    case: "typedConfig" as const,
    value: any(DownstreamTlsContextSchema, {
      commonTlsContext: {
        tlsCertificateSdsSecretConfigs: [{ name: "default" }],
        validationContextType: {
          case: "validationContextSdsSecretConfig",
          value: { name, sdsConfig: { configSourceSpecifier: { case: "ads", value: {} } } },
        },
      },
    }),
  },
});
const key = async (name: string) => {
  const { trust } = await TestRoot.make();
  const inlineBytes = Buffer.from(trust.kind === "trust" ? trust.roots : "");
  const trustedCa = { specifier: { case: "inlineBytes" as const, value: inlineBytes } };
  const message = create(SecretSchema, { name, type: { case: "validationContext", value: { trustedCa } } });
  return { name, version: "1", bytes: toBinary(SecretSchema, message) };
};

/** Workers that say and do what the test wants. */
function scene(count = 2) {
  const clock = new FakeClock();
  const scope = new Scope();
  onTestFinished(() => {
    for (const one of started) one.end("is over");
    return scope.close();
  });
  const started: Fake[] = [];
  let workers: Workers | undefined;
  const store = new ConfigStore({ clock, log: silentLogger, onTaken: (...taken) => workers?.onTaken(...taken) });
  const secrets = new Cell<Secrets>(new Map([["default", certificateSecret("chain 1", "key 1")]]));
  const metrics = new Metrics();
  const bound: string[] = [];
  const begin = () => {
    workers = startWorkers(
      {
        count,
        settings: { redirected: false, captured: [] },
        start: (worker, on) => {
          const fake = new Fake(worker, on);
          started.push(fake);
          return fake;
        },
        bind: ({ port: number }) => {
          if (number === 1) return "EACCES";
          bound.push(`+${number}`);
          return { close: () => void bound.push(`-${number}`) };
        },
        clock,
        random: () => 0.5,
        log: silentLogger,
        metrics,
        store,
        secrets,
        resolve: (host, family) =>
          host === "known" && family === 4
            ? Promise.resolve({ addresses: ["10.0.0.1" as Ip], ttlMs: 5000 })
            : Promise.reject(new Failure("agent/resolve", `"${host}" does not resolve`)),
        resolveDestination: () => Promise.resolve(["10.0.0.9" as Ip]),
      },
      scope,
    );
    return workers;
  };
  return { clock, scope, store, secrets, metrics, started, bound, begin };
}

class Fake {
  readonly worker: number;
  readonly pid = 1;
  readonly sent: ToWorker[] = [];
  readonly handles: unknown[] = [];
  killed = false;
  readonly #on: { readonly message: (message: FromWorker) => void; readonly ended: (why: string) => void };
  #over = false;

  constructor(worker: number, on: { message: (message: FromWorker) => void; ended: (why: string) => void }) {
    this.worker = worker;
    this.#on = on;
  }
  send(message: ToWorker, handle?: unknown): void {
    this.sent.push(structuredClone(message));
    if (handle !== undefined) this.handles.push(handle);
  }
  kill(): void {
    this.killed = true;
    this.end("was ended by SIGKILL");
  }
  say(message: FromWorker): void {
    this.#on.message(message);
  }
  end(why: string): void {
    if (!this.#over) this.#on.ended(why);
    this.#over = true;
  }
  of<K extends ToWorker["kind"]>(kind: K) {
    return this.sent.filter((message): message is Extract<ToWorker, { kind: K }> => message.kind === kind);
  }
  /** Answers all questions for metrics that it was asked. */
  count(metrics: MetricsSnapshot): void {
    for (const { id, of } of this.of("report")) if (of === "metrics") this.say({ kind: "metrics", id, metrics });
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("each worker begins with all that was taken, and is told what is taken after that", () => {
  const { store, started, begin } = scene();
  store.apply(typeUrls.listener, [port("l", 80)], []);
  store.apply(typeUrls.cluster, [staticCluster("c", [])], []);
  begin();
  const bad = { name: "bad", bytes: new Uint8Array([1, 2, 3]) };
  expect(store.apply(typeUrls.cluster, [staticCluster("d", []), bad], ["c"])).toHaveLength(1);
  expect(started.map(({ worker }) => worker)).toEqual([1, 2]);
  for (const one of started) {
    const [first] = one.of("begin");
    expect(first?.resources.map(({ name }) => name)).toEqual(["c", "l"]);
    expect(first?.secrets).toEqual([{ name: "default", kind: "certificate", chain: "chain 1", key: "key 1" }]);
    const [told] = one.of("resources");
    expect(told?.updated.map(({ name, bytes }) => [name, bytes instanceof Uint8Array])).toEqual([["d", true]]);
    expect(told?.removed).toEqual(["c"]);
  }
});

test("a key that the control plane told goes to every worker, also to one that comes later", async () => {
  const { clock, store, started, begin } = scene();
  const uses = (name: string, secret: string) =>
    listener(name, {
      address: socketAddress("127.0.0.1", name.length),
      filterChains: [{ filters: [tcpProxy("c")], transportSocket: toldTls(secret) }],
    });
  store.apply(typeUrls.listener, [uses("a", "here"), uses("bb", "nowhere")], []);
  begin();
  store.apply(typeUrls.secret, [await key("here")], ["nowhere"]);
  for (const one of started) {
    const [told] = one.of("resources");
    expect([told?.type, told?.updated.map(({ name }) => name), told?.removed]).toEqual([
      typeUrls.secret,
      ["here"],
      ["nowhere"],
    ]);
  }
  started[0]!.end("was ended by SIGKILL");
  clock.advance(100);
  const [again] = started[2]!.of("begin");
  expect(again?.resources.map(({ name }) => name).sort()).toEqual(["a", "bb", "here"]);
  expect(again?.absent).toEqual(["nowhere"]);
});

test("a certificate that was renewed goes to every worker", () => {
  const { secrets, started, begin } = scene();
  begin();
  secrets.set(new Map([["ROOTCA", trustSecret("roots 2")]]));
  for (const one of started)
    expect(one.of("secrets").map(({ secrets: told }) => told)).toEqual([
      [{ name: "ROOTCA", kind: "trust", roots: "roots 2", crl: undefined }],
    ]);
});

test("a listener has addresses when all workers listen on it, and tells of the one that cannot", () => {
  const { store, started, begin } = scene();
  store.apply(typeUrls.listener, [port("l", 80)], []);
  const workers = begin();
  const [one, two] = started;
  one!.say({ kind: "listening", listeners: [view("l")] });
  expect(workers.listeners()).toMatchObject([{ name: "l", addresses: [], bound: true, error: undefined }]);
  two!.say({ kind: "listening", listeners: [view("l", { addresses: [], error: "no" })] });
  expect(workers.listeners()).toMatchObject([{ addresses: [], error: "worker 2: no" }]);
  two!.say({ kind: "listening", listeners: [view("l")] });
  expect(workers.listeners()).toMatchObject([{ addresses: ["127.0.0.1:80"], error: undefined }]);
  expect(workers.listeners()[0]?.chains).toEqual([{ name: "", open: 2 }]);
});

test("workers share one socket, which stays bound while the configuration wants it", () => {
  const { store, started, bound, begin } = scene();
  store.apply(typeUrls.listener, [port("l", 80)], []);
  begin();
  const address = { ip: "127.0.0.1" as Ip, port: 80 };
  for (const one of started) one.say({ kind: "bind", id: 7, key: "127.0.0.1:80", address });
  expect(started.map(({ handles }) => handles.length)).toEqual([1, 1]);
  expect(started[0]!.handles[0]).toBe(started[1]!.handles[0]);
  for (const one of started) one.end("exited with code 1");
  expect(bound).toEqual(["+80"]);
  store.apply(typeUrls.listener, [], ["l"]);
  expect(bound).toEqual(["+80", "-80"]);
});

test("an address that cannot be had is told with the system's code", () => {
  const { started, begin } = scene(1);
  begin();
  started[0]!.say({ kind: "bind", id: 3, key: "127.0.0.1:1", address: { ip: "127.0.0.1" as Ip, port: 1 } });
  expect(started[0]!.of("bound")).toEqual([{ kind: "bound", id: 3, code: "EACCES" }]);
});

test("a worker that ends is replaced after a wait that grows, and the others go on", () => {
  const { clock, store, started, begin } = scene();
  const workers = begin();
  started[0]!.end("was ended by SIGKILL");
  expect(workers.problem()).toBeUndefined();
  store.apply(typeUrls.cluster, [staticCluster("c", [])], []);
  clock.advance(100);
  expect(started.map(({ worker }) => worker)).toEqual([1, 2, 1]);
  expect(started[2]!.of("begin")[0]?.resources.map(({ name }) => name)).toEqual(["c"]);
  expect(started[1]!.sent.map(({ kind }) => kind)).toEqual(["begin", "resources"]);
  started[2]!.end("exited with code 1");
  clock.advance(100);
  expect(started).toHaveLength(3);
  clock.advance(100);
  expect(started).toHaveLength(4);
});

test("where no worker is left, nothing is served, and why is said", () => {
  const { clock, started, begin } = scene();
  const workers = begin();
  for (const one of started) one.end("exited with code 3");
  expect(workers.problem()).toBe("no worker runs: the last one exited with code 3");
  clock.advance(200);
  expect(workers.problem()).toBeUndefined();
});

test("a worker that answers nothing is ended and replaced", () => {
  const { clock, started, begin } = scene();
  begin();
  started[0]!.say({ kind: "listening", listeners: [] });
  for (let i = 0; i < 13; i++) {
    started[1]!.count([]);
    clock.advance(5000);
  }
  expect(started.slice(0, 2).map(({ killed }) => killed)).toEqual([true, false]);
  clock.advance(200);
  expect(started.map(({ worker }) => worker)).toEqual([1, 2, 1]);
});

test("counts are summed over workers and do not fall when one ends; what is now is of those that run", async () => {
  const { clock, metrics, started, begin } = scene();
  const workers = begin();
  metrics.counter("of_primary_total", "of the first process").inc(1);
  const counts = async (requests: number, active: number) => {
    const of = new Metrics();
    of.counter("requests_total", "requests", ["code"]).inc({ code: "2xx" }, requests);
    of.gauge("active", "now").set(active);
    of.histogram("seconds", "how long", [], [1]).observe(0.5);
    return of.snapshot();
  };
  const first = await counts(5, 2);
  const second = await counts(7, 3);
  const text = async () => {
    const asked = workers.metricsText();
    for (const one of started) one.count(one.worker === 1 ? first : second);
    return (await asked).split("\n").filter((line) => /^(requests|active|seconds_count|of_primary)/.test(line));
  };
  expect(await text()).toEqual(["of_primary_total 1", 'requests_total{code="2xx"} 12', "active 5", "seconds_count 2"]);
  started[1]!.end("was ended by SIGKILL");
  expect((await text()).sort()).toEqual(
    ["of_primary_total 1", 'requests_total{code="2xx"} 12', "active 2", "seconds_count 2"].sort(),
  );
  clock.advance(100);
  expect((await text()).sort()).toEqual(
    ["of_primary_total 1", 'requests_total{code="2xx"} 19', "active 5", "seconds_count 3"].sort(),
  );
});

test("a worker that is busy keeps nobody from the others' counts", async () => {
  const { clock, started, begin } = scene();
  const workers = begin();
  const of = new Metrics();
  of.counter("requests_total", "requests").inc(4);
  const asked = workers.metricsText();
  started[0]!.count(await of.snapshot());
  clock.advance(2000);
  expect(await asked).toContain("requests_total 4");
});

test("clusters of all workers are shown as one, with the worst that any knows of an endpoint", async () => {
  const { started, begin } = scene();
  const workers = begin();
  const asked = workers.views();
  const endpoint = {
    address: "10.0.0.1:80",
    priority: 0,
    weight: 1,
    active: 1,
    success: 3,
    error: 1,
    connectFailure: 0,
  };
  for (const one of started)
    for (const { id } of one.of("report"))
      one.say({
        kind: "views",
        id,
        listeners: [],
        clusters: [
          {
            name: "c",
            discovery: "eds",
            connections: 2,
            endpoints: [{ ...endpoint, health: one.worker === 1 ? "healthy" : "left out" }],
          },
        ],
      });
  expect((await asked).clusters).toEqual([
    {
      name: "c",
      discovery: "eds",
      connections: 4,
      endpoints: [{ ...endpoint, health: "left out", active: 2, success: 6, error: 2 }],
    },
  ]);
});

test("names are looked up for a worker, and a failure keeps its code", async () => {
  const { started, begin } = scene(1);
  begin();
  const [one] = started;
  one!.say({ kind: "resolve", id: 1, host: "known", family: 4 });
  one!.say({ kind: "resolve", id: 2, host: "unknown", family: 4 });
  one!.say({ kind: "resolve", id: 3, host: "anything", family: undefined });
  await settled();
  expect([...one!.of("resolved"), ...one!.of("unresolved")]).toEqual([
    { kind: "resolved", id: 1, addresses: ["10.0.0.1"], ttlMs: 5000 },
    { kind: "resolved", id: 3, addresses: ["10.0.0.9"], ttlMs: undefined },
    { kind: "unresolved", id: 2, code: "agent/resolve", message: '"unknown" does not resolve' },
  ]);
});

test("stopping waits for workers to drain, cuts off at the deadline, and ends those that do not end", async () => {
  const { clock, scope, started, begin } = scene(3);
  begin();
  started[2]!.end("exited with code 1");
  const closing = scope.close({ drainMs: 1000, clock });
  await settled();
  clock.advance(900);
  expect(started.map((one) => [one.of("stop").length, one.of("cut").length])).toEqual([
    [1, 0],
    [1, 0],
    [0, 0],
  ]);
  started[0]!.end("exited with code 0");
  clock.advance(200);
  await settled();
  expect(started[1]!.of("cut")).toHaveLength(1);
  expect(started[1]!.killed).toBe(false);
  clock.advance(2000);
  expect(started[1]!.killed).toBe(true);
  await closing;
  clock.advance(60_000);
  expect(started).toHaveLength(3);
});
