import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createLogger, Failure, type Logger, Metrics, Scope, silentLogger, systemClock } from "../base/index.ts";
import { createIntermediate, createRoot, mintToken, writeCacerts } from "../ca/index.ts";
import { type AgentConfig, startAgent } from "../proxy/index.ts";
import { agentConfig, ask, prepared } from "./testdata/agent.ts";
import {
  depsOf,
  entry,
  type Folders,
  loopback,
  root,
  running,
  testScope,
  tokenFile,
  tokenKey,
} from "./testdata/scene.ts";

// A whole agent that starts again while the control plane is away, and what else may be missing when it starts.

const patient = { timeout: 10_000, interval: 50 };
const status = async (socket: string) => (await ask(socket, "/ready")).status;
const why = async (socket: string) => (await ask(socket, "/ready")).text;
const clusters = async (socket: string) =>
  (JSON.parse((await ask(socket, "/clusters")).text) as { readonly name: string }[]).map(({ name }) => name);
const metric = async (socket: string, line: string) =>
  Number(new RegExp(`^${line.replace(/[{}]/g, "\\$&")} (\\S+)$`, "m").exec((await ask(socket, "/metrics")).text)?.[1]);
const states = (dir: string) => readdirSync(join(dir, "sleep-1.foo")).sort();

interface Line {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** A logger that keeps its lines as they would be printed. */
function recorder(): { readonly log: Logger; readonly lines: Line[] } {
  const lines: Line[] = [];
  const log = createLogger({
    level: "info",
    name: "test",
    destination: { write: (text) => lines.push(JSON.parse(text)) },
  });
  return { log, lines };
}

/** An agent in a scope of its own; `kill` takes it away as a kill would: without a last word to the disk. */
async function agent(config: AgentConfig, log: Logger = silentLogger) {
  const scope = testScope();
  await startAgent(config, { ...depsOf(), metrics: new Metrics(), log }, scope);
  return scope;
}

/** What an agent keeps once it has come up with a control plane, and the folder of that, with both of them gone. */
async function cameUp(changes: Parameters<typeof running>[1] = {}) {
  const { at, token, socket } = await prepared();
  const stateDir = join(at.dir, "state");
  const plane = await running(at, changes);
  const config = agentConfig({ at, port: plane.ports.secure, token, socket, stateDir });
  const first = await agent(config);
  await expect.poll(() => status(socket), patient).toBe(200);
  await expect.poll(() => states(stateDir), patient).toEqual(["certificate.state", "configuration.state"]);
  const known = await clusters(socket);
  const serial = (await ask(socket, "/certs")).text;
  await first.close();
  await plane.scope.close();
  return { at, token, socket, stateDir, config, port: plane.ports.secure, known, serial };
}

test("started again while its control plane is away, it serves at once with what it was told last", async () => {
  const { socket, config, known, serial } = await cameUp();
  const { log, lines } = recorder();
  await agent(config, log);
  // No waiting: all of it is in force when it has started.
  expect((await ask(socket, "/ready")).text).toBe("ready\n");
  expect((await clusters(socket)).sort()).toEqual([...known].sort());
  expect(known).toContain("outbound|8000||httpbin.bar.global");
  expect(JSON.parse((await ask(socket, "/certs")).text).certificates).toEqual(JSON.parse(serial).certificates);
  expect(lines.map(({ event }) => event)).toEqual(
    expect.arrayContaining(["going on with the kept certificate", "going on with the kept configuration"]),
  );
  expect(await metric(socket, "isthmus_ads_connected")).toBe(0);
  await expect.poll(() => metric(socket, "isthmus_ads_disconnects_total"), patient).toBeGreaterThan(0);
  expect(await metric(socket, "isthmus_certificate_expiry_seconds")).toBeGreaterThan(systemClock.now() / 1000);
});

test("when the control plane is back with other configuration, only the differences come, and what is gone goes", async () => {
  const { at, socket, config, port, known } = await cameUp();
  await agent(config);
  writeFileSync(join(at.config, "entry.yaml"), entry({ host: "reviews.bar.global", vip: "240.0.0.3" }));
  await running(at, { secure: { ip: loopback, port } });
  await expect.poll(() => clusters(socket), patient).toContain("outbound|8000||reviews.bar.global");
  await expect.poll(() => clusters(socket), patient).not.toContain("outbound|8000||httpbin.bar.global");
  expect(await status(socket)).toBe(200);
  expect(await metric(socket, "isthmus_ads_connected")).toBe(1);
  const dump = (await ask(socket, "/config_dump")).text;
  expect(dump).not.toContain("httpbin.bar.global");
  const told = (type: string, outcome: string) =>
    metric(socket, `isthmus_ads_resources_total{type="${type}",outcome="${outcome}"}`);
  for (const type of ["cluster", "names"]) {
    await expect.poll(() => told(type, "removed"), patient).toBe(1);
    expect(await told(type, "taken"), type).toBe(1);
  }
  expect(known.length).toBeGreaterThan(2);
  expect(await told("endpoints", "taken")).toBe(1);
  for (const type of ["cluster", "listener", "endpoints", "route", "names"])
    expect(await told(type, "refused"), type).toBe(0);
});

test("what came after the restart is what the next restart goes on with", async () => {
  const { at, socket, config, port, stateDir } = await cameUp();
  const second = await agent(config);
  writeFileSync(join(at.config, "entry.yaml"), entry({ host: "reviews.bar.global", vip: "240.0.0.3" }));
  const plane = await running(at, { secure: { ip: loopback, port } });
  await expect.poll(() => clusters(socket), patient).toContain("outbound|8000||reviews.bar.global");
  const file = join(stateDir, "sleep-1.foo/configuration.state");
  await expect.poll(() => readFileSync(file).includes("reviews.bar.global"), patient).toBe(true);
  await second.close();
  await plane.scope.close();
  await agent(config);
  expect(await clusters(socket)).toContain("outbound|8000||reviews.bar.global");
  expect(await clusters(socket)).not.toContain("outbound|8000||httpbin.bar.global");
});

const damages: ReadonlyArray<{ it: string; damage: (own: string) => void; says: RegExp }> = [
  {
    it: "its configuration was written by half",
    damage: (own) => truncateSync(join(own, "configuration.state"), 300),
    says: /no configuration yet/,
  },
  {
    it: "its certificate is lost",
    damage: (own) => rmSync(join(own, "certificate.state")),
    says: /no certificate yet: .*ECONNREFUSED/,
  },
  {
    it: "its certificate was written by half",
    damage: (own) => truncateSync(join(own, "certificate.state"), 700),
    says: /no certificate yet: .*ECONNREFUSED/,
  },
];
for (const { it, damage, says } of damages) {
  test(`if ${it}, it is up and not ready, says why, and mends itself when the control plane comes`, async () => {
    const { at, socket, config, port, stateDir } = await cameUp();
    damage(join(stateDir, "sleep-1.foo"));
    await agent(config);
    await expect.poll(() => why(socket), patient).toMatch(says);
    expect(await status(socket)).toBe(503);
    await running(at, { secure: { ip: loopback, port } });
    await expect.poll(() => status(socket), patient).toBe(200);
    expect(await clusters(socket)).toContain("outbound|8000||httpbin.bar.global");
  });
}

test("a kept certificate of a root that the mesh has no more is not used", async () => {
  const { at, socket, config } = await cameUp();
  writeFileSync(join(at.dir, "root-cert.pem"), createRoot({ nowMs: systemClock.now() })["root-cert.pem"]);
  const { log, lines } = recorder();
  await agent(config, log);
  expect(await why(socket)).toMatch(/^no certificate yet/);
  expect(lines).toContainEqual(expect.objectContaining({ event: "kept certificate ignored" }));
});

test("a certificate that ended while the control plane was away is a reason not to be ready, until it is back", async () => {
  const { at, token, socket } = await prepared();
  const plane = await running(at, { workloadCertTtlMs: 2_000 });
  const port = plane.ports.secure;
  await agent(agentConfig({ at, port, token, socket }));
  await expect.poll(() => status(socket), patient).toBe(200);
  await plane.scope.close();
  await expect.poll(() => why(socket), patient).toMatch(/^the certificate ended at .*: .*ECONNREFUSED/);
  expect(await status(socket)).toBe(503);
  await running(at, { secure: { ip: loopback, port } });
  await expect.poll(() => status(socket), patient).toBe(200);
});

test("a token that is missing at first is named, and the certificate comes soon after it does", async () => {
  const { at, token, socket } = await prepared();
  rmSync(token);
  const plane = await running(at);
  await agent(agentConfig({ at, port: plane.ports.secure, token, socket }));
  await expect.poll(() => why(socket), patient).toMatch(/^no certificate yet: token ".*" cannot be read/);
  await tokenFile(at, { namespace: "foo", serviceAccount: "sleep" });
  await expect.poll(() => status(socket), patient).toBe(200);
});

const refusals: ReadonlyArray<{ it: string; write: (at: Folders, token: string) => Promise<unknown>; says: RegExp }> = [
  {
    it: "the token of somebody else",
    write: async (at, token) =>
      writeFileSync(token, readFileSync(await tokenFile(at, { namespace: "bar", serviceAccount: "httpbin" }))),
    says: /^no certificate yet: CA's answer refused: it is for ".*\/ns\/bar\/sa\/httpbin", not for ".*\/ns\/foo\/sa\/sleep"/,
  },
  {
    it: "a token that has ended",
    write: async (_at, token) => {
      const nowMs = systemClock.now() - 3_600_000;
      const of = { namespace: "foo", serviceAccount: "sleep", ttlMs: 60_000, nowMs };
      writeFileSync(token, await mintToken(tokenKey, of));
    },
    says: /^no certificate yet: .*(expired|exp)/,
  },
];
for (const { it, write, says } of refusals) {
  test(`${it} gives no certificate: it says so, asks less and less often, and does not crash`, async () => {
    const { at, token, socket } = await prepared();
    await write(at, token);
    const plane = await running(at);
    const { log, lines } = recorder();
    await agent(agentConfig({ at, port: plane.ports.secure, token, socket }), log);
    await expect.poll(() => why(socket), patient).toMatch(says);
    const tries = () => lines.filter(({ event }) => event === "certificate could not be renewed");
    await expect.poll(() => tries().length, patient).toBeGreaterThanOrEqual(4);
    const waits = tries().map(({ againMs }) => againMs as number);
    expect(waits[3]).toBeGreaterThan(waits[0]! * 4);
    expect(tries()[0]).toMatchObject({ level: "warn", err: { message: expect.any(String), code: expect.any(String) } });
  });
}

test("a root that is written over the old one counts without a restart", { timeout: 40_000 }, async () => {
  const { at, token, socket } = await prepared();
  const next = createRoot({ nowMs: systemClock.now() });
  writeCacerts(at.cacerts, createIntermediate({ nowMs: systemClock.now(), issuer: next, cluster: "cluster1" }), {
    replace: true,
  });
  const plane = await running(at);
  await agent(agentConfig({ at, port: plane.ports.secure, token, socket }));
  await expect.poll(() => why(socket), patient).toMatch(/no certificate yet: .*certificate/);
  writeFileSync(join(at.dir, "root-cert.pem"), root["root-cert.pem"] + next["root-cert.pem"]);
  await expect.poll(() => status(socket), { timeout: 25_000, interval: 200 }).toBe(200);
});

test("a root that changes is a reason to ask for a certificate at once", { timeout: 40_000 }, async () => {
  const { at, token, socket } = await prepared();
  const plane = await running(at);
  await agent(agentConfig({ at, port: plane.ports.secure, token, socket }));
  const serial = async () =>
    JSON.parse((await ask(socket, "/certs")).text).certificates[0]?.serial as string | undefined;
  await expect.poll(serial, patient).toBeTruthy();
  const first = await serial();
  const next = createRoot({ nowMs: systemClock.now() });
  writeFileSync(join(at.dir, "root-cert.pem"), root["root-cert.pem"] + next["root-cert.pem"]);
  await expect.poll(serial, { timeout: 15_000, interval: 100 }).not.toBe(first);
  expect(await status(socket)).toBe(200);
});

test("an admin port that is taken is named, and nothing is left behind", async () => {
  const { at, token, socket } = await prepared();
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { readonly port: number };
  const config = agentConfig({ at, port: 1, token, socket, more: { admin: [{ host: "127.0.0.1", port }] } });
  const scope = new Scope();
  const caught = await startAgent(config, depsOf(), scope).catch((err: unknown) => err);
  await scope.close();
  expect(caught).toBeInstanceOf(Failure);
  expect((caught as Failure).code).toBe("admin/listen");
  expect((caught as Failure).message).toContain(`127.0.0.1:${port}`);
});

test("while it stops it says that it is not ready, and is gone after", async () => {
  const { at, token, socket } = await prepared();
  const plane = await running(at);
  const scope = await agent(agentConfig({ at, port: plane.ports.secure, token, socket }));
  await expect.poll(() => status(socket), patient).toBe(200);
  const closing = scope.close();
  const answer = await ask(socket, "/ready").catch(() => undefined);
  if (answer) expect(answer).toEqual({ status: 503, text: "stopping\n" });
  await closing;
  await expect(ask(socket, "/ready")).rejects.toThrow(/ENOENT|ECONNREFUSED/);
});
