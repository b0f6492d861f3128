import { openSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { errorsOf } from "./testing/attack.ts";
import { dial, eventually, type Mesh, pause, readAll, readUntil, startMesh, tunnel } from "./testing/mesh.ts";

let mesh: Mesh | undefined;
afterEach(async () => {
  await mesh?.close();
  mesh = undefined;
});

const request = (path: string) => `GET ${path} HTTP/1.1\r\nHost: echo.bar.svc.cluster.local\r\n\r\n`;

async function served(victim: Mesh, path = "/still"): Promise<void> {
  const socket = await tunnel(victim, "echo.bar.svc.cluster.local", 8000);
  socket.write(request(path));
  expect(await readUntil(socket, `GET ${path} `)).toMatch(/^HTTP\/1\.1 200 /);
  socket.destroy();
}

test("out of descriptors: it sheds connections, counts them, does not spin, and serves again when some are free", async () => {
  mesh = await startMesh({ limits: "ulimit -n 150 &&" });
  const { victim } = mesh;
  await served(mesh);
  const sockets: Socket[] = [];
  for (let i = 0; i < 300; i++) {
    const socket = await dial(mesh.ports.edge).catch(() => undefined);
    if (socket) sockets.push(socket.resume());
  }
  await pause(500);
  expect(victim.process.exitCode).toBeNull();
  const cpu = processorMs(victim.pid);
  await pause(1000);
  // A loop that tries to accept for ever would burn all of it.
  if (cpu !== undefined) expect(processorMs(victim.pid)! - cpu).toBeLessThan(700);
  for (const socket of sockets) socket.destroy();
  await eventually(
    () =>
      served(mesh!, "/again").then(
        () => true,
        () => false,
      ),
    Boolean,
    { timeoutMs: 20_000 },
  );
  expect(await victim.count("isthmus_proxy_connections_shed_total")).toBeGreaterThan(0);
  expect(victim.log.join("\n")).toContain("connections turned away");
  expect(victim.log.join("\n")).not.toMatch(/^\s+at /m);
});

describe("an access log that cannot be written", () => {
  test("because the disk is full costs lines, not requests, and is said once", async () => {
    mesh = await startMesh({ stdout: openSync("/dev/full", "w") });
    for (let i = 0; i < 20; i++) {
      await served(mesh);
      await pause(30);
    }
    const said = await eventually(
      () => mesh!.victim.log.filter((line) => line.includes("access log cannot be written")),
      (lines) => lines.length > 0,
    );
    // Once for each of the three proxies in that process.
    expect(said.length).toBeLessThanOrEqual(3);
    expect(mesh.victim.process.exitCode).toBeNull();
  });

  test("because its reader is gone costs lines, not requests", async () => {
    mesh = await startMesh();
    await served(mesh);
    mesh.victim.process.stdout!.destroy();
    for (let i = 0; i < 10; i++) {
      await served(mesh);
      await pause(30);
    }
    await eventually(
      () => mesh!.victim.log.filter((line) => line.includes("access log cannot be written")),
      (lines) => lines.length > 0,
    );
    await served(mesh);
    expect(mesh.victim.process.exitCode).toBeNull();
  });

  test("because its reader stands still costs bounded memory, and no request", async () => {
    mesh = await startMesh();
    mesh.victim.process.stdout!.pause();
    const before = await mesh.victim.memory();
    const socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
    let answers = 0;
    socket.on("data", (chunk: Buffer) => {
      answers += chunk.toString("latin1").split("HTTP/1.1 200").length - 1;
    });
    for (let i = 0; i < 2000; i++) {
      socket.write(request("/x"));
      if (i % 20 === 0) await pause(5);
    }
    await eventually(
      () => answers,
      (count) => count === 2000,
      { timeoutMs: 20_000 },
    );
    socket.destroy();
    // Four megabytes of lines wait at most; then they are dropped.
    expect((await mesh.victim.memory()).used - before.used).toBeLessThan(25 * 1024 * 1024);
    mesh.victim.process.stdout!.resume();
    await served(mesh);
  });
});

describe("signals", () => {
  test("SIGTERM under load: nothing new is taken, what runs is finished, and it ends in time with 0", async () => {
    mesh = await startMesh({ drainMs: 10_000 });
    const slow = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const socket = await tunnel(mesh!, "echo.bar.svc.cluster.local", 8000);
        socket.write(request(`/slow-${i}`));
        return { socket, answer: readUntil(socket, `GET /slow-${i} `, 15_000) };
      }),
    );
    await eventually(
      () => mesh!.echo.seen.join("").split("GET /slow-").length,
      (count) => count > 40,
    );
    mesh.victim.process.kill("SIGTERM");
    await pause(300);
    await expect(dial(mesh.ports.explicit)).rejects.toThrow("ECONNREFUSED");
    for (const { answer } of slow) {
      const text = await answer;
      expect(text).toMatch(/^HTTP\/1\.1 200 /);
      expect(text).toMatch(/^connection: close\r$/m);
    }
    expect(await mesh.victim.exited).toEqual({ code: 0, signal: null });
    expect(errorsOf(mesh.victim.log)).toEqual([]);
  });

  test("SIGTERM with clients that never end: it ends at the deadline", async () => {
    mesh = await startMesh({ drainMs: 1000 });
    const socket = await tunnel(mesh, "raw.bar.svc.cluster.local", 9000);
    socket.write("\x01");
    await readUntil(socket, "\x01", 20_000);
    const gone = readAll(socket);
    const began = Date.now();
    mesh.victim.process.kill("SIGTERM");
    expect(await mesh.victim.exited).toEqual({ code: 0, signal: null });
    expect(Date.now() - began).toBeLessThan(5000);
    await gone;
  });

  test("SIGSTOP and SIGCONT: what waited is served, and connections that were open go on", async () => {
    mesh = await startMesh();
    const open = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
    open.write(request("/before"));
    await readUntil(open, "GET /before ");
    mesh.victim.process.kill("SIGSTOP");
    open.write(request("/during"));
    const waiting = dial(mesh.ports.edge).then((socket) => {
      socket.write("GET /waited HTTP/1.1\r\nHost: edge\r\n\r\n");
      return readUntil(socket, "GET /waited ", 15_000).finally(() => socket.destroy());
    });
    await pause(3000);
    mesh.victim.process.kill("SIGCONT");
    expect(await readUntil(open, "GET /during ")).toMatch(/^HTTP\/1\.1 200 /);
    expect(await waiting).toMatch(/^HTTP\/1\.1 200 /);
    open.destroy();
    await served(mesh);
    expect(errorsOf(mesh.victim.log)).toEqual([]);
  });
});

/** Processor time that a process has used, in milliseconds. */
function processorMs(pid: number): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return undefined;
  }
}
