import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Logger, Scope } from "../../base/index.ts";
import type { WorkloadCertificate } from "../../ca/index.ts";
import { typeUrls } from "../../proto/index.ts";
import { FakeClock, scratchDir } from "../../testing/index.ts";
import { parseHostname, parseIp } from "../../values/index.ts";
import { type KeptState, openKeptState } from "./kept-state.ts";
import type { NodeFacts } from "./node.ts";

const node: NodeFacts = {
  type: "sidecar",
  ip: parseIp("10.0.0.1")!,
  pod: "sleep-1",
  namespace: "foo",
  serviceAccount: "sleep",
  cluster: "cluster1",
  clusterDomain: parseHostname("cluster.local")!,
  labels: { app: "sleep" },
  network: undefined,
  networkView: undefined,
  interception: "REDIRECT",
  appPorts: undefined,
  explicitPort: undefined,
  version: "1.0.0",
};
const configuration = (version = "1") => ({
  told: [typeUrls.cluster, typeUrls.listener],
  resources: [
    { type: typeUrls.cluster, name: "outbound|8000||httpbin", version, bytes: new Uint8Array([1, 2, 3]) },
    { type: typeUrls.names, name: "httpbin.bar.global", version, bytes: new Uint8Array() },
  ],
});
const certificate = {
  certChainPem: "chain",
  privateKeyPem: "secret key",
  rootsPem: "roots",
} as WorkloadCertificate;

function recorder() {
  const lines: { readonly level: string; readonly event: string; readonly fields: Record<string, unknown> }[] = [];
  const at = (level: string) => (fields: object, event: string) => {
    lines.push({ level, event, fields: fields as Record<string, unknown> });
  };
  const log: Logger = {
    error: at("error"),
    warn: at("warn"),
    info: at("info"),
    debug: at("debug"),
    child: () => log,
  };
  return { log, lines };
}

interface Opened {
  readonly state: KeptState;
  readonly scope: Scope;
  readonly clock: FakeClock;
  readonly lines: ReturnType<typeof recorder>["lines"];
}

async function opened(dir: string, facts: Partial<NodeFacts> = {}, startMs = 1_000_000): Promise<Opened> {
  const clock = new FakeClock(startMs);
  const { log, lines } = recorder();
  const scope = new Scope();
  const state = await openKeptState({ dir, node: { ...node, ...facts } }, { clock, log }, scope);
  return { state, scope, clock, lines };
}

/** Writes both and ends, as a proxy that is stopped. */
async function written(dir: string): Promise<string> {
  const { state, scope } = await opened(dir);
  state.keepConfiguration(() => configuration());
  state.keepCertificate(certificate);
  await scope.close();
  return join(dir, "sleep-1.foo");
}

/** The disk takes real time, whatever the clock says. */
const until = (holds: () => boolean) => expect.poll(holds, { interval: 5, timeout: 5_000 }).toBe(true);

/** Whether anything has that name, be it a link to what cannot be written. */
const lexists = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

describe("what a proxy keeps", () => {
  test("is there again at the next start, with when it was", async () => {
    const dir = scratchDir();
    await written(dir);
    const { state, lines } = await opened(dir, {}, 2_000_000);
    expect(state.configuration).toEqual({ ...configuration(), savedMs: 1_000_000 });
    expect(state.certificate).toEqual({
      certChainPem: "chain",
      privateKeyPem: "secret key",
      rootsPem: "roots",
      sinceMs: 1_000_000,
    });
    expect(lines).toEqual([]);
  });

  test("is its user's alone, also below a folder that is open to all", async () => {
    const dir = scratchDir();
    chmodSync(dir, 0o777);
    const own = await written(dir);
    expect(statSync(own).mode & 0o777).toBe(0o700);
    expect(readdirSync(own).sort()).toEqual(["certificate.state", "configuration.state"]);
    for (const name of readdirSync(own)) expect(statSync(join(own, name)).mode & 0o777).toBe(0o600);
  });

  test("is closed to others when it was not", async () => {
    const dir = scratchDir();
    mkdirSync(join(dir, "sleep-1.foo"), { mode: 0o755 });
    const own = await written(dir);
    expect(statSync(own).mode & 0o777).toBe(0o700);
  });

  const foreign: ReadonlyArray<{ it: string; facts: Partial<NodeFacts>; certificateToo: boolean }> = [
    { it: "of another address", facts: { ip: parseIp("10.0.0.2")! }, certificateToo: true },
    { it: "with other labels", facts: { labels: { app: "other" } }, certificateToo: false },
    { it: "of another cluster", facts: { cluster: "cluster2" }, certificateToo: false },
    { it: "that captures no more", facts: { interception: "NONE", explicitPort: 15080 }, certificateToo: false },
  ];
  for (const { it, facts, certificateToo } of foreign) {
    test(`is not for a proxy ${it}`, async () => {
      const dir = scratchDir();
      await written(dir);
      const { state, lines } = await opened(dir, facts);
      expect(state.configuration).toBeUndefined();
      expect(state.certificate === undefined).toBe(certificateToo);
      expect(lines.map(({ event }) => event)).toContain("kept state ignored");
    });
  }

  test("serves the next version of the program too", async () => {
    const dir = scratchDir();
    await written(dir);
    expect((await opened(dir, { version: "2.0.0" })).state.configuration).toBeDefined();
  });

  test("is ignored with a line that says why when half of it is there, and the other file counts", async () => {
    const dir = scratchDir();
    const own = await written(dir);
    const file = join(own, "configuration.state");
    writeFileSync(file, readFileSync(file).subarray(0, 150));
    const { state, lines } = await opened(dir);
    expect(state.configuration).toBeUndefined();
    expect(state.certificate).toBeDefined();
    expect(lines).toEqual([
      {
        level: "warn",
        event: "kept state ignored",
        fields: { file: "configuration.state", reason: expect.stringMatching(/has \d+ bytes where \d+ were written/) },
      },
    ]);
  });

  test("is written soon after many changes, once, and what waits is written at the end", async () => {
    const dir = scratchDir();
    const { state, clock, scope } = await opened(dir);
    let reads = 0;
    const change = () =>
      state.keepConfiguration(() => {
        reads++;
        return configuration(String(reads));
      });
    for (let i = 0; i < 100; i++) change();
    expect(reads).toBe(0);
    clock.advance(600);
    await until(() => existsSync(join(dir, "sleep-1.foo/configuration.state")));
    expect(reads).toBe(1);
    change();
    await scope.close();
    expect(reads).toBe(2);
    expect((await opened(dir)).state.configuration?.resources[0]?.version).toBe("2");
    expect(clock.pending).toBe(0);
  });

  test("is the old one still while the disk is full; that is said once, and when it is over", async () => {
    const dir = scratchDir();
    const own = await written(dir);
    const before = readFileSync(join(own, "configuration.state"));
    const { state, clock, scope, lines } = await opened(dir);
    for (let i = 0; i < 3; i++) {
      // A disk on which nothing has room: each write to it fails with ENOSPC.
      symlinkSync("/dev/full", join(own, "configuration.state.tmp"));
      state.keepConfiguration(() => configuration("2"));
      clock.advance(31_000);
      await until(() => !lexists(join(own, "configuration.state.tmp")));
      await until(() => clock.pending === 1);
    }
    expect(lines).toEqual([
      {
        level: "warn",
        event: "state could not be kept, going on without",
        fields: { file: join(own, "configuration.state"), err: expect.objectContaining({ code: "system/ENOSPC" }) },
      },
    ]);
    expect(readFileSync(join(own, "configuration.state"))).toEqual(before);
    clock.advance(31_000);
    await until(() => lines.length === 2);
    expect(lines[1]).toMatchObject({ level: "info", event: "state can be kept again" });
    await scope.close();
    expect((await opened(dir)).state.configuration?.resources[0]?.version).toBe("2");
  });

  test("need not be: a folder that cannot be made is said once, and all goes on", async () => {
    const dir = join(scratchDir(), "file");
    writeFileSync(dir, "");
    const { state, clock, scope, lines } = await opened(dir);
    expect(state.configuration).toBeUndefined();
    state.keepConfiguration(() => configuration());
    for (let i = 0; i < 3; i++) {
      clock.advance(31_000);
      await until(() => clock.pending === 1);
    }
    await scope.close();
    expect(lines.filter(({ event }) => event === "state could not be kept, going on without")).toHaveLength(1);
  });

  test.skipIf(process.getuid?.() !== 0)("is never put into a folder of another user's", async () => {
    const dir = scratchDir();
    const own = join(dir, "sleep-1.foo");
    mkdirSync(own, { mode: 0o700 });
    chownSync(own, 12345, 12345);
    await written(dir);
    expect(readdirSync(own)).toEqual([]);
    // Nor is what such a user laid there ever used.
    rmSync(own, { recursive: true });
    await written(dir);
    chownSync(own, 12345, 12345);
    const { state, lines } = await opened(dir);
    expect(state.certificate).toBeUndefined();
    expect(lines[0]?.fields["err"]).toMatchObject({
      code: "agent/state-folder",
      message: expect.stringMatching(/belongs to user 12345/),
    });
  });

  test("has no place outside its folder, whatever a pod is called", async () => {
    const dir = join(scratchDir(), "state");
    const { state, scope } = await opened(dir, { pod: "../../escaped/x" });
    state.keepConfiguration(() => configuration());
    await scope.close();
    expect(readdirSync(dir)).toEqual(["..%2F..%2Fescaped%2Fx.foo"]);
  });
});
