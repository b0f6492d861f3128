import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { survive } from "./testing/attack.ts";
import {
  dial,
  eventually,
  type Mesh,
  pause,
  readAll,
  readUntil,
  residentBytes,
  startMesh,
  tunnel,
} from "./testing/mesh.ts";

/** What the application behind the port of no declared protocol does with its next connection. */
let behave: (socket: Socket) => void = (socket) => void socket.pipe(socket);
let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh({ raw: (socket) => behave(socket) });
});
afterAll(() => mesh?.close());

const raw = () => tunnel(mesh, "raw.bar.svc.cluster.local", 9000);
const megabyte = 1024 * 1024;

describe("bytes of a protocol that nobody declared, through both sidecars", () => {
  test("a server that speaks first is heard", async () => {
    behave = (socket) => {
      socket.write("220 welcome\r\n");
      socket.pipe(socket);
    };
    const socket = await raw();
    expect(await readUntil(socket, "welcome", 20_000)).toContain("220 welcome");
    socket.write("QUIT");
    expect(await readUntil(socket, "QUIT")).toContain("QUIT");
    socket.destroy();
    // Without a client's sidecar, after the second that an inbound port waits for a client's first bytes.
    const plain = await dial(mesh.ports.raw);
    expect(await readUntil(plain, "welcome", 5000)).toBe("220 welcome\r\n");
    plain.destroy();
  });

  test("a client that ends its side first still gets everything", async () => {
    behave = (socket) => {
      let got = "";
      socket.on("data", (chunk: Buffer) => {
        got += chunk.toString();
      });
      socket.on("end", () => socket.end(`you said ${got.length} bytes`));
    };
    const socket = await raw();
    socket.write("\x01".repeat(100_000));
    socket.end();
    expect(await readAll(socket, 20_000)).toBe("you said 100000 bytes");
  });

  test("a server that ends its side first still gets everything", async () => {
    let got = 0;
    behave = (socket) => {
      socket.end("bye");
      socket.on("data", (chunk: Buffer) => {
        got += chunk.length;
      });
    };
    const socket = await raw();
    socket.write("\x01");
    expect(await readAll(socket, 20_000)).toBe("bye");
    for (let i = 0; i < 10; i++) {
      socket.write("\x01".repeat(1000));
      await pause(10);
    }
    socket.end();
    await eventually(
      () => got,
      (bytes) => bytes === 10_001,
    );
  });

  test("a reset by the server reaches the client as a reset, and the other way round", async () => {
    behave = (socket) => {
      socket.once("data", () => socket.resetAndDestroy());
    };
    const one = await raw();
    const failed = new Promise<string>((resolve) =>
      one.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "")),
    );
    one.resume().write("\x01hello");
    expect(await failed).toBe("ECONNRESET");

    let told: string | undefined;
    behave = (socket) => {
      socket.on("error", (error: NodeJS.ErrnoException) => {
        told = error.code;
      });
      socket.write("hello");
      socket.resume();
    };
    const two = await raw();
    two.write("\x01");
    await readUntil(two, "hello");
    two.resetAndDestroy();
    await eventually(
      () => told,
      (code) => code === "ECONNRESET",
    );
  });

  test("128 MB through a slow reader arrive whole, and the proxies' memory stays flat", async () => {
    const total = 128 * megabyte;
    behave = (socket) => {
      const piece = Buffer.alloc(256 * 1024, 1);
      let sent = 0;
      const more = () => {
        while (sent < total) {
          sent += piece.length;
          if (!socket.write(piece)) return void socket.once("drain", more);
        }
        socket.end();
      };
      socket.once("data", more);
    };
    const socket = await raw();
    const before = residentBytes(mesh.victim.pid) ?? 0;
    let highest = 0;
    let bytes = 0;
    const watch = setInterval(() => {
      highest = Math.max(highest, residentBytes(mesh.victim.pid) ?? 0);
    }, 100);
    const whole = new Promise<void>((resolve) => {
      socket.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        // The first 4 MB at 2 MB/s, with the rest waiting behind it.
        if (bytes < 4 * megabyte) {
          socket.pause();
          setTimeout(() => socket.resume(), chunk.length / 2000);
        }
      });
      socket.once("end", resolve).once("close", resolve);
    });
    socket.write("\x01");
    await whole;
    clearInterval(watch);
    socket.destroy();
    expect(bytes).toBe(total);
    expect(highest - before).toBeLessThan(60 * megabyte);
  });

  test("connections that break in every way, hundreds of times, leave nothing behind", async () => {
    behave = (socket) => void socket.pipe(socket);
    await survive(
      mesh,
      async () => {
        for (let round = 0; round < 10; round++) {
          const sockets = await Promise.all(Array.from({ length: 30 }, () => dial(mesh.ports.raw)));
          for (const [index, socket] of sockets.entries()) {
            socket.resume();
            if (index % 3 > 0) socket.write(Buffer.alloc(index * 100, 1));
          }
          await pause(30);
          for (const [index, socket] of sockets.entries()) {
            if (index % 4 === 0) socket.resetAndDestroy();
            else if (index % 4 === 1) socket.end();
            else socket.destroy();
          }
        }
      },
      { settleMs: 20_000 },
    );
  });
});

describe("answers over HTTP that break off", () => {
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: echo.bar.svc.cluster.local\r\n\r\n`;

  test("in the middle are broken off for the client too, never ended as if whole", async () => {
    const before = await mesh.victim.count("isthmus_http_requests_total", { code_class: "2xx" });
    const socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
    socket.write(get("/cut"));
    const text = await readAll(socket);
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    expect(text).toContain("content-length: 100000");
    expect(text.length).toBeLessThan(1000);
    await eventually(
      () => mesh.victim.count("isthmus_http_requests_total", { code_class: "2xx" }),
      (now) => now >= before + 2,
    );
    await eventually(
      () => mesh.victim.access.filter((line) => line.includes("/cut") && line.includes('"response_flags":"UC"')),
      (lines) => lines.length === 2,
    );
  });

  test("by clients that leave are given up behind as well", async () => {
    await survive(mesh, async () => {
      for (let i = 0; i < 60; i++) {
        const socket = await tunnel(mesh, "echo.bar.svc.cluster.local", 8000);
        socket.write(get("/big"));
        await new Promise((first) => socket.once("data", first));
        if (i % 2 === 0) socket.destroy();
        else socket.resetAndDestroy();
      }
    });
  });
});

test("a hundred WebSockets that break in the middle leave nothing behind", async () => {
  await survive(mesh, async () => {
    const upgrade =
      "GET /ws HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";
    for (let i = 0; i < 100; i++) {
      const socket = await dial(mesh.ports.edge);
      socket.write(upgrade);
      expect(await readUntil(socket, "\r\n\r\n")).toMatch(/^HTTP\/1\.1 101 /);
      socket.write(Buffer.alloc(1000, 0x81));
      if (i % 3 === 0) socket.resetAndDestroy();
      else if (i % 3 === 1) socket.destroy();
      else {
        socket.end();
        socket.destroy();
      }
    }
  });
});
