import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { survive } from "./testing/attack.ts";
import { dial, eventually, type Mesh, pause, readAll, startMesh } from "./testing/mesh.ts";

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh();
});
afterAll(() => mesh?.close());

const name = "outbound_.8000_._.echo.bar.global";
const uint16 = (value: number) => Buffer.of(value >> 8, value & 255);
const sized = (bytes: Buffer) => Buffer.concat([uint16(bytes.length), bytes]);
const extension = (type: number, content: Buffer) => Buffer.concat([uint16(type), sized(content)]);
const serverName = (text: string) => {
  const bytes = Buffer.from(text, "latin1");
  return extension(0, sized(Buffer.concat([Buffer.of(0), sized(bytes)])));
};
const alpn = (...names: string[]) =>
  extension(16, sized(Buffer.concat(names.map((one) => Buffer.concat([Buffer.of(one.length), Buffer.from(one)])))));
const tls13 = extension(43, Buffer.of(2, 3, 4));

/** A ClientHello in one record. */
function hello(extensions: readonly Buffer[], version = 0x0303): Buffer {
  const all = sized(Buffer.concat(extensions));
  const body = Buffer.concat([
    uint16(version),
    Buffer.alloc(32, 7),
    Buffer.of(0),
    sized(Buffer.of(0x13, 0x01)),
    Buffer.of(1, 0),
    extensions.length > 0 ? all : Buffer.alloc(0),
  ]);
  const message = Buffer.concat([Buffer.of(1, 0), uint16(body.length), body]);
  return Buffer.concat([Buffer.of(22, 3, 1), sized(message)]);
}

const refusals = (reason: string) => mesh.victim.count("isthmus_proxy_connections_refused_total", { reason });

/** The gateway's lines since `from`. */
const lines = (from: number) => mesh.victim.access.slice(from).filter((line) => line.includes("0.0.0.0_15443"));

describe("what no gateway passes on", () => {
  const long = serverName("a".repeat(300));
  const rows: ReadonlyArray<readonly [it: string, bytes: Buffer, reason: string]> = [
    ["no server name", hello([tls13]), "no_server_name"],
    ["no extensions at all", hello([]), "no_server_name"],
    [
      "a name that is not exposed",
      hello([serverName("outbound_.8000_._.echo.bar.svc.other"), tls13]),
      "unknown_server_name",
    ],
    ["a plain name of a service", hello([serverName("echo.bar.global"), tls13]), "unknown_server_name"],
    [
      "the name of the control plane",
      hello([serverName("outbound_.15012_._.isthmus.isthmus-system.svc.cluster.local"), tls13]),
      "unknown_server_name",
    ],
    ["a wildcard for a name", hello([serverName("*.global"), tls13]), "unknown_server_name"],
    ["CR and LF in the name", hello([serverName('a\r\n{"fake":1}'), tls13]), "bad_client_hello"],
    ["an escape sequence in the name", hello([serverName("a\x1b[2Jb"), tls13]), "bad_client_hello"],
    ["a NUL in the name", hello([serverName(`${name}\0.evil`), tls13]), "bad_client_hello"],
    ["two trailing dots", hello([serverName(`${name}..`), tls13]), "bad_client_hello"],
    ["a name of 300 bytes", hello([long, tls13]), "bad_client_hello"],
    ["two server names", hello([serverName(name), serverName("x.evil"), tls13]), "bad_client_hello"],
    ["TLS 1.0 alone", hello([serverName(name)], 0x0301), "bad_client_hello"],
    ["TLS 1.1 alone", hello([serverName(name)], 0x0302), "bad_client_hello"],
    [
      "an SSLv2 hello",
      Buffer.from("802e0100020015000000100100800200800300800400800500800600400700c0", "hex"),
      "bad_client_hello",
    ],
    ["a plain HTTP request", Buffer.from(`GET / HTTP/1.1\r\nHost: ${name}\r\n\r\n`), "plaintext"],
    ["an HTTP/2 preface", Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "plaintext"],
    ["an SSH banner", Buffer.from("SSH-2.0-OpenSSH_9.9\r\n"), "plaintext"],
    ["random bytes", Buffer.from("f3a9c1d2e07788665544332211009f8e7d6c", "hex"), "plaintext"],
    [
      "a hello of a megabyte",
      Buffer.concat([Buffer.of(22, 3, 1, 0x40, 0, 1, 0x10, 0, 0), Buffer.alloc(20_000)]),
      "bad_client_hello",
    ],
    ["an alert in place of a hello", Buffer.of(21, 3, 1, 0, 2, 2, 40), "plaintext"],
  ];
  for (const [it, bytes, reason] of rows) {
    test(`${it}: closed, counted as ${reason}, told in one line, and no server is called`, async () => {
      const before = await refusals(reason);
      const accepted = mesh.echo.connections() + mesh.admin.connections();
      const from = mesh.victim.access.length;
      const socket = await dial(mesh.ports.passthrough);
      socket.write(bytes);
      expect(await readAll(socket)).toBe("");
      socket.destroy();
      await eventually(
        () => refusals(reason),
        (now) => now === before + 1,
      );
      expect(mesh.echo.connections() + mesh.admin.connections()).toBe(accepted);
      const told = await eventually(
        () => lines(from),
        (found) => found.length > 0,
      );
      expect(told).toHaveLength(1);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
      expect(told[0]).not.toMatch(/[\x00-\x1f\x7f]/);
      expect(JSON.parse(told[0]!)).toMatchObject({
        upstream_cluster: null,
        connection_termination_details: expect.stringContaining(reason),
      });
    });
  }

  test("a reset after one byte, and a close without any, cost nothing", async () => {
    await survive(mesh, async () => {
      const before = await refusals("closed_early");
      for (let i = 0; i < 100; i++) {
        const socket = await dial(mesh.ports.passthrough);
        if (i % 2 === 0) socket.write(Buffer.of(22));
        await pause(1);
        if (i % 2 === 0) socket.resetAndDestroy();
        else socket.end();
      }
      await eventually(
        () => refusals("closed_early"),
        (now) => now === before + 100,
      );
    });
  });

  test("300 that connect and say nothing, or half a hello, are closed in time, while others are served", async () => {
    await survive(
      mesh,
      async () => {
        const before = { silent: await refusals("no_client_hello"), slow: await refusals("slow_client_hello") };
        const half = hello([serverName(name), tls13]).subarray(0, 40);
        const sockets = await Promise.all(Array.from({ length: 300 }, () => dial(mesh.ports.passthrough)));
        for (const [index, socket] of sockets.entries()) {
          socket.resume();
          if (index % 2 === 0) socket.write(half);
        }
        // Fifteen seconds is what a listener waits for first bytes unless told otherwise.
        await Promise.all(sockets.map((socket) => new Promise((gone) => socket.once("end", gone).once("close", gone))));
        for (const socket of sockets) socket.destroy();
        expect(await refusals("no_client_hello")).toBe(before.silent + 150);
        expect(await refusals("slow_client_hello")).toBe(before.slow + 150);
      },
      { settleMs: 15_000 },
    );
  });
});

describe("what a gateway passes on unopened", () => {
  const grease = [extension(0x0a0a, Buffer.of(0)), extension(0xfafa, Buffer.alloc(0))];
  const large = extension(51, Buffer.concat([uint16(1220), uint16(0x11ec), sized(Buffer.alloc(1216, 5))]));
  const rows: ReadonlyArray<readonly [it: string, pieces: readonly Buffer[]]> = [
    ["the exposed name", [hello([serverName(name), alpn("istio"), tls13])]],
    ["the name in upper case", [hello([serverName(name.toUpperCase()), alpn("istio"), tls13])]],
    ["the name with a trailing dot", [hello([serverName(`${name}.`), alpn("istio"), tls13])]],
    ["a hello with grease", [hello([grease[0]!, serverName(name), alpn("istio"), tls13, grease[1]!])]],
    [
      "a hello with a post-quantum key share, in two segments",
      split(hello([large, serverName(name), alpn("istio"), tls13]), 1400),
    ],
    ["a hello byte by byte", split(hello([serverName(name), alpn("istio"), tls13]), 1)],
  ];
  function split(bytes: Buffer, size: number): Buffer[] {
    return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
  }
  for (const [it, pieces] of rows) {
    test(`${it} is routed to its service`, async () => {
      const from = mesh.victim.access.length;
      const socket = await dial(mesh.ports.passthrough);
      for (const piece of pieces) {
        socket.write(piece);
        await new Promise((next) => setImmediate(next));
      }
      // Who is behind answers: an alert or a hello of its own, as TLS.
      const first = await new Promise<Buffer>((resolve, reject) => {
        socket.once("data", resolve).once("end", () => reject(new Error("closed without an answer")));
      });
      expect([21, 22]).toContain(first[0]);
      socket.destroy();
      const told = await eventually(
        () => lines(from).filter((line) => line.includes(`"upstream_cluster":"outbound_`)),
        (found) => found.length > 0,
      );
      expect(JSON.parse(told.at(-1)!)).toMatchObject({
        requested_server_name: name,
        upstream_cluster: "outbound_.8000_._.echo.bar.svc.cluster.local",
      });
    });
  }

  const through = (options: object) =>
    new Promise<string>((resolve) => {
      const socket = connectTls({
        host: "127.0.0.1",
        port: mesh.ports.passthrough,
        servername: name,
        rejectUnauthorized: false,
        ...options,
      });
      let text = "";
      socket.on("secureConnect", () => socket.write("GET /x HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"));
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
      socket.on("error", (error: NodeJS.ErrnoException) => {
        text += ` ${error.code}`;
      });
      socket.on("close", () => resolve(text));
    });

  test("a client of the mesh gets through; one without certificate, of another root, expired or with another ALPN does not", async () => {
    const { TestRoot } = await import("../../src/proxy/testdata/certificates.ts");
    const pem = ({ chain, key }: { chain: string; key: string }) => ({ cert: chain, key });
    const good = pem(await mesh.root.workload("foo", "sleep"));
    expect(await through({ ...good, ALPNProtocols: ["istio-http/1.1"] })).toMatch(/^HTTP\/1\.1 200 /);
    const accepted = mesh.echo.connections();
    const before = await refusals("tls");
    const foreign = await TestRoot.make("another root");
    const dayMs = 86_400_000;
    const wrong = [
      {},
      pem(await foreign.workload("foo", "sleep")),
      pem(
        await mesh.root.workload("foo", "sleep", {
          notBeforeMs: Date.now() - 2 * dayMs,
          notAfterMs: Date.now() - dayMs,
        }),
      ),
      pem(
        await mesh.root.workload("foo", "sleep", {
          notBeforeMs: Date.now() + dayMs,
          notAfterMs: Date.now() + 2 * dayMs,
        }),
      ),
    ];
    for (const credentials of wrong) {
      const answer = await through({ ...credentials, ALPNProtocols: ["istio-http/1.1"] });
      expect(answer).not.toContain("200 OK");
    }
    await eventually(
      () => refusals("tls"),
      (now) => now === before + wrong.length,
    );
    // Without the mesh's ALPN it is no call of the mesh: the workload's own plain-text chain reads a ClientHello, no HTTP.
    expect(await through({ ...good, ALPNProtocols: ["h2"] })).not.toContain("200 OK");
    expect(mesh.echo.connections()).toBe(accepted);
  });
});
