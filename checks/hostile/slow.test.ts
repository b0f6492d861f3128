import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectNoInsides, survive } from "./testing/attack.ts";
import { dial, eventually, type Mesh, pause, readAll, residentBytes, startMesh, tunnel } from "./testing/mesh.ts";

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh();
});
afterAll(() => mesh?.close());

const megabyte = 1024 * 1024;
const many = (count: number, port: number) => Promise.all(Array.from({ length: count }, () => dial(port)));

/** Sends a piece to each every 400 ms until all are gone or the time is over. */
async function drip(sockets: readonly Socket[], piece: (round: number) => string, ms: number): Promise<void> {
  const until = Date.now() + ms;
  for (let round = 0; Date.now() < until; round++) {
    const alive = sockets.filter((socket) => !socket.destroyed && socket.writable);
    if (alive.length === 0) return;
    for (const socket of alive) socket.write(piece(round));
    await pause(400);
  }
}

test("400 clients that never finish their heads are told 408 and closed, others are served", async () => {
  await survive(
    mesh,
    async () => {
      const refused = await mesh.victim.count("isthmus_http_requests_total", { code_class: "4xx", flag: "DPE" });
      const sockets = await many(400, mesh.ports.edge);
      const answers = sockets.map((socket) => readAll(socket, 25_000));
      for (const socket of sockets) socket.write("GET /slowloris HTTP/1.1\r\nHost: edge.example\r\n");
      await drip(sockets, (round) => `X-${round}: y\r\n`, 20_000);
      for (const answer of await Promise.all(answers)) {
        expect(answer).toMatch(/^HTTP\/1\.1 408 /);
        expectNoInsides(answer);
      }
      for (const socket of sockets) socket.destroy();
      expect(await mesh.victim.count("isthmus_http_requests_total", { code_class: "4xx", flag: "DPE" })).toBe(
        refused + 400,
      );
      expect(mesh.victim.access.filter((line) => line.includes('"response_code":408')).length).toBeGreaterThanOrEqual(
        400,
      );
      expect(mesh.echo.seen.join("")).not.toContain("/slowloris");
    },
    { settleMs: 15_000 },
  );
});

test("300 clients that send their bodies byte by byte, and 300 that do not read their answers, cost bounded memory", async () => {
  await survive(
    mesh,
    async () => {
      const bodies = await many(300, mesh.ports.edge);
      for (const socket of bodies)
        socket.resume().write("POST /rudy HTTP/1.1\r\nHost: edge.example\r\nContent-Length: 100000\r\n\r\n");
      const readers = await many(300, mesh.ports.edge);
      for (const socket of readers) socket.pause().write("GET /big HTTP/1.1\r\nHost: edge.example\r\n\r\n");
      await drip(bodies, () => "x", 4000);
      for (const socket of [...bodies, ...readers]) socket.destroy();
      await eventually(
        () => mesh.victim.connections(),
        (open) => open < 100,
        { what: "connections stay" },
      );
    },
    // 2.4 GB were asked for. Per answer two proxies hold what their watermarks, TLS and sockets hold.
    { rssGrowth: 400 * megabyte, settleMs: 20_000 },
  );
});

test("a large answer through a slow reader keeps the proxies' memory flat", async () => {
  const socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
  const read = new Promise<number>((resolve) => {
    let bytes = 0;
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      socket.pause();
      // About 2 MB/s.
      setTimeout(() => socket.resume(), chunk.length / 2000);
      if (bytes > 8 * megabyte) resolve(bytes);
    });
  });
  const before = residentBytes(mesh.victim.pid) ?? 0;
  socket.write("GET /big HTTP/1.1\r\nHost: echo.bar.svc.cluster.local\r\n\r\n");
  let highest = 0;
  const watch = setInterval(() => {
    highest = Math.max(highest, residentBytes(mesh.victim.pid) ?? 0);
  }, 100);
  await read;
  clearInterval(watch);
  socket.destroy();
  expect(highest - before).toBeLessThan(30 * megabyte);
});

test("a request of 100,000 trailers, fields or chunk extensions is refused early", async () => {
  const long = "GET /x HTTP/1.1\r\nHost: edge.example\r\n";
  const chunked = "POST /x HTTP/1.1\r\nHost: edge.example\r\nTransfer-Encoding: chunked\r\n\r\n";
  const rows = [
    [`${long}${"a: b\r\n".repeat(100_000)}\r\n`, 431],
    [`${long}a: ${"b".repeat(megabyte)}\r\n\r\n`, 431],
    [`GET /${"a".repeat(64 * 1024)} HTTP/1.1\r\nHost: edge.example\r\n\r\n`, 414],
    [`${chunked}0\r\n${"a: b\r\n".repeat(100_000)}\r\n`, 431],
    [`${chunked}${`1;${"a".repeat(30)}\r\nx\r\n`.repeat(3000)}0\r\n\r\n`, 413],
    [`${chunked}ffffffffffffffff\r\n`, 413],
  ] as const;
  await survive(mesh, async () => {
    for (const [bytes, status] of rows) {
      const began = Date.now();
      const socket = await dial(mesh.ports.edge);
      socket.write(bytes);
      const answer = await readAll(socket);
      socket.destroy();
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      expectNoInsides(answer);
      expect(Date.now() - began).toBeLessThan(5000);
    }
  });
});
