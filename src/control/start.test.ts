import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type Clock, Failure, Scope, systemClock } from "../base/index.ts";
import { createIntermediate, createRoot, demoOrganization, writeCacerts } from "../ca/index.ts";
import { parseIp } from "../values/index.ts";
import type { ControlConfig } from "./config.ts";
import { startControlPlane } from "./control-plane.ts";
import { configOf, depsOf, type Folders, folders, freePort, loopback, root, running } from "./testdata/scene.ts";

/** The system's clock, with the timers that are still to come. */
function countingClock(): Clock & { pending(): number } {
  const timers = new Set<object>();
  return {
    ...systemClock,
    pending: () => timers.size,
    after(ms, run, options) {
      const key = {};
      timers.add(key);
      const timer = systemClock.after(
        ms,
        () => {
          timers.delete(key);
          run();
        },
        options,
      );
      return {
        cancel() {
          timers.delete(key);
          timer.cancel();
        },
      };
    },
  };
}

async function taken(): Promise<number> {
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return typeof address === "object" && address ? address.port : 0;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

const minuteMs = 60_000;
const rows: ReadonlyArray<{
  readonly it: string;
  readonly prepare: (at: Folders) => Promise<Partial<ControlConfig>> | Partial<ControlConfig>;
  readonly code: string;
  readonly says: (at: Folders, changes: Partial<ControlConfig>) => readonly string[];
}> = [
  {
    it: "no CA files at all",
    prepare: (at) => {
      rmSync(at.cacerts, { recursive: true });
      return {};
    },
    code: "ca/cacerts-missing",
    says: (at) => [at.cacerts],
  },
  {
    it: "a CA without its key",
    prepare: (at) => {
      rmSync(join(at.cacerts, "ca-key.pem"));
      return {};
    },
    code: "ca/cacerts-missing",
    says: (at) => [at.cacerts, "ca-key.pem"],
  },
  {
    it: "a CA with another's key",
    prepare: (at) => {
      const other = createIntermediate({ nowMs: systemClock.now(), issuer: root, cluster: "other" });
      writeFileSync(join(at.cacerts, "ca-key.pem"), other["ca-key.pem"]);
      return {};
    },
    code: "ca/cacerts-key-mismatch",
    says: (at) => [at.cacerts, "ca-key.pem"],
  },
  {
    it: "a CA that has ended",
    prepare: (at) => {
      const nowMs = systemClock.now() - 10 * minuteMs;
      const ended = createIntermediate({ nowMs, issuer: root, cluster: "cluster1", validForMs: minuteMs });
      writeCacerts(at.cacerts, ended, { replace: true });
      return {};
    },
    code: "ca/cacerts-expired",
    says: (at) => [at.cacerts, "ca-cert.pem"],
  },
  {
    it: "a demo's CA outside a demo",
    prepare: (at) => {
      const issuer = createRoot({ nowMs: systemClock.now(), organization: demoOrganization });
      const set = createIntermediate({
        nowMs: systemClock.now(),
        issuer,
        cluster: "cluster1",
        organization: demoOrganization,
      });
      writeCacerts(at.cacerts, set, { replace: true });
      return {};
    },
    code: "ca/cacerts-demo",
    says: (at) => [at.cacerts, "demo"],
  },
  {
    it: "no folder of manifests",
    prepare: (at) => {
      rmSync(at.config, { recursive: true });
      return {};
    },
    code: "sources/folder",
    says: (at) => [at.config, "no such folder", "create it"],
  },
  {
    it: "no keys for tokens",
    prepare: (at) => {
      rmSync(at.tokens);
      return {};
    },
    code: "ca/token-keys",
    says: (at) => [at.tokens],
  },
  {
    it: "keys for tokens that are none",
    prepare: (at) => {
      writeFileSync(at.tokens, "{}");
      return {};
    },
    code: "ca/token-keys",
    says: (at) => [at.tokens],
  },
  {
    it: "a port for discovery that is taken",
    prepare: async () => ({ secure: { ip: loopback, port: await taken() } }),
    code: "grpc/listen",
    says: (_at, { secure }) => [`127.0.0.1:${secure?.port}`, "EADDRINUSE"],
  },
  {
    it: "a port for discovery without TLS that is taken",
    prepare: async () => ({ plaintext: { ip: loopback, port: await taken() } }),
    code: "grpc/listen",
    says: (_at, { plaintext }) => [`127.0.0.1:${plaintext?.port}`, "EADDRINUSE"],
  },
  {
    it: "a port for DNS that is taken",
    prepare: async () => ({ dns: { listen: { ip: loopback, port: await taken() }, forwardTo: [] } }),
    code: "dns/listen-failed",
    says: (_at, { dns }) => [`127.0.0.1:${dns?.listen.port}`, "tcp", "something else listens there"],
  },
  {
    it: "a port for its admin API that is taken",
    prepare: async () => ({ admin: { host: "127.0.0.1", port: await taken() } }),
    code: "admin/listen",
    says: (_at, { admin }) => [`127.0.0.1:${admin && "port" in admin ? admin.port : ""}`, "EADDRINUSE"],
  },
  {
    it: "discovery without TLS for all the world",
    prepare: () => ({ plaintext: { ip: parseIp("0.0.0.0")!, port: 15010 } }),
    code: "control/plaintext",
    says: () => ["0.0.0.0:15010", "loopback only"],
  },
];

for (const { it, prepare, code, says } of rows) {
  test(`${it}: it does not start, says why, and leaves nothing behind`, async () => {
    const at = folders();
    mkdirSync(at.config);
    writeFileSync(join(at.config, "entry.yaml"), "");
    const secure = await freePort();
    const changes = { secure: { ip: loopback, port: secure }, ...(await prepare(at)) };
    const clock = countingClock();
    const scope = new Scope();
    onTestFinished(() => scope.close());
    const caught = await startControlPlane(configOf(at, changes), { ...depsOf(), clock }, scope).catch((err) => err);
    expect(caught).toBeInstanceOf(Failure);
    expect((caught as Failure).code).toBe(code);
    const said = `${(caught as Failure).message} ${(caught as Failure).hint ?? ""}`.toLowerCase();
    for (const part of says(at, changes)) expect(said).toContain(part.toLowerCase());
    // The scope is open still: what started and could not go on was stopped by the start itself.
    expect(clock.pending()).toBe(0);
    if (changes.secure.port === secure) expect(await answers(secure)).toBe(false);
  });
}

test("a demo's CA is taken when it is a demo", async () => {
  const at = folders();
  mkdirSync(at.config);
  const issuer = createRoot({ nowMs: systemClock.now(), organization: demoOrganization });
  writeCacerts(
    at.cacerts,
    createIntermediate({ nowMs: systemClock.now(), issuer, cluster: "cluster1", organization: demoOrganization }),
    { replace: true },
  );
  const plane = await running(at, { demo: true });
  expect(plane.cacerts.current.value.demo).toBe(true);
});

test("the admin socket of a process that was killed is taken over, that of one that runs is not", async () => {
  const at = folders();
  mkdirSync(at.config);
  const path = join(at.dir, "admin.sock");
  const admin = { path };
  // What a kill leaves: the file of a socket at which nobody listens.
  const dying = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  expect(() => execFileSync(process.execPath, ["-e", dying], { stdio: "ignore" })).toThrow();
  await running(at, { admin });
  const second = await startControlPlane(configOf(at, { admin }), depsOf(), new Scope()).catch((err) => err);
  expect((second as Failure).code).toBe("admin/listen");
});
