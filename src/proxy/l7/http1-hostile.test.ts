import { createServer, type Server } from "node:http";
import { createServer as createTcpServer, type Server as TcpServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FakeClock } from "../../testing/index.ts";
import { everythingTo, managerOf, type Rig, startRig, TestUpstream, talk } from "./testing/rig.ts";

let rig: Rig;
let backend: Server;
let reached = 0;

beforeAll(async () => {
  backend = createServer((request, response) => {
    reached++;
    request.resume();
    request.on("end", () => response.end("reached"));
  });
  await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
  const port = (backend.address() as { port: number }).port;
  rig = await startRig({ table: everythingTo("app"), clusters: [new TestUpstream("app", [port])] });
});

afterAll(async () => {
  await rig.close();
  expect(rig.sockets.size).toBe(0);
  backend.closeAllConnections();
  await new Promise((resolve) => backend.close(resolve));
});

const post = (fields: string, body = "") => `POST / HTTP/1.1\r\nHost: a\r\n${fields}\r\n\r\n${body}`;
const chunked = (body: string) => post("Transfer-Encoding: chunked", body);

const rows: ReadonlyArray<readonly [it: string, bytes: string | Buffer, status: number]> = [
  ["two content-lengths that differ", post("Content-Length: 5\r\nContent-Length: 6", "hello!"), 400],
  ["a list of content-lengths that differ", post("Content-Length: 5, 6", "hello!"), 400],
  ["content-length +5", post("Content-Length: +5", "hello"), 400],
  ["content-length 0x5", post("Content-Length: 0x5", "hello"), 400],
  ["content-length -1", post("Content-Length: -1"), 400],
  ["content-length 2^64", post("Content-Length: 18446744073709551616"), 400],
  ["an empty content-length", post("Content-Length: "), 400],
  ["a space before the colon", post("Content-Length : 5", "hello"), 400],
  ["a space before a field", post(" Content-Length: 5", "hello"), 400],
  ["a folded field", post("X-A: b\r\n c"), 400],
  ["lines that end in LF alone", "GET / HTTP/1.1\nHost: a\n\n", 400],
  ["one line that ends in LF alone", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400],
  ["a CR within a value", post("X-A: b\rc"), 400],
  ["a NUL within a value", post("X-A: b\0c"), 400],
  ["a NUL within a name", post("X\0A: b"), 400],
  ["a field without a colon", post("nonsense"), 400],
  ["transfer-encoding and content-length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400],
  ["a transfer-encoding that is not chunked", post("Transfer-Encoding: gzip"), 501],
  ["chunked twice", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), 501],
  ["chunked behind a vertical tab", post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), 400],
  ["transfer-encoding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400],
  ["two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400],
  ["no host", "GET / HTTP/1.1\r\n\r\n", 400],
  ["an empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", 400],
  ["a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400],
  ["a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400],
  ["a URL for another host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["a target with a space", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["a target with a byte above 127", Buffer.from("GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "latin1"), 400],
  ["an escaped NUL in the path", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["a broken escape in the path", "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["overlong UTF-8 in the path", "GET /%c0%ae%c0%ae/ HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["a path above its root", "GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["HTTP/2.0 in a request line", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400],
  ["HTTP/0.9", "GET /\r\n\r\n", 400],
  ["a TLS hello", Buffer.from([22, 3, 1, 2, 0, 1, 0, 10, 10, 10]), 400],
  ["a method with a bracket", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400],
  ["an unknown expectation", post("Expect: the worst\r\nContent-Length: 1", "a"), 417],
  ["CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 403],
  ["200 fields", post(Array.from({ length: 200 }, (_, i) => `x${i}: y`).join("\r\n")), 431],
  ["a field of 1 MB", post(`X-A: ${"a".repeat(1024 * 1024)}`), 431],
  ["a URL of 64 KB", `GET /${"a".repeat(64 * 1024)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
  ["a URL of 40 KB", `GET /${"a".repeat(40 * 1024)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414],
  ["a chunk size of 2^64", chunked("10000000000000000\r\n"), 413],
  ["a chunk size with a sign", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400],
  ["a chunk size 0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400],
  ["a chunk size with a space before", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400],
  ["an empty chunk size", chunked("\r\nhello\r\n0\r\n\r\n"), 400],
  ["a chunk size that ends in LF alone", chunked("5\nhello\r\n0\r\n\r\n"), 400],
  ["a chunk longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), 400],
  ["a flood of chunk extensions", chunked(`5;${"a=b;".repeat(10_000)}\r\nhello\r\n0\r\n\r\n`), 413],
  ["a flood of small chunk extensions", chunked(`${"1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(2000)}0\r\n\r\n`), 413],
  ["a CR in a chunk extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400],
  ["a hundred thousand trailers", chunked(`0\r\n${"a: b\r\n".repeat(100_000)}\r\n`), 431],
  ["a folded trailer", chunked("0\r\na: b\r\n c\r\n\r\n"), 400],
];

describe("a request that two readers could read in two ways, or that is too large", () => {
  for (const [it, bytes, status] of rows) {
    test(`${it} gets ${status}, and the connection is closed`, async () => {
      const before = rig.records.length;
      const answer = await talk(rig.port, bytes, status === 403 ? { until: "not served" } : {});
      expect(answer.split("\r\n")[0]).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      // One answer and no second: nothing behind it was read as a request.
      expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
      if (status !== 403) expect(answer).toContain("connection: close\r\n");
      expect(rig.records.length).toBe(before + 1);
      expect(rig.records.at(-1)?.flags[0]).toBe(status === 403 ? "NR" : "DPE");
    });
  }

  test("none of them was understood by the server behind", async () => {
    const before = reached;
    for (const [, bytes] of rows.slice(0, 20)) await talk(rig.port, bytes, {});
    expect(reached).toBe(before);
  });

  test("the same content-length told twice is one", async () => {
    expect(await talk(rig.port, post("Content-Length: 5\r\nContent-Length: 5", "hello"), { until: "reached" })).toMatch(
      / 200 OK/,
    );
  });

  test("a URL for the same host is served", async () => {
    expect(await talk(rig.port, "GET http://A:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n", { until: "reached" })).toMatch(
      / 200 OK/,
    );
  });
});

describe("a slow client", () => {
  test("that does not finish its head is told 408 when the time is over", async () => {
    const clock = new FakeClock();
    const slow = await startRig({ table: everythingTo("app"), clock, manager: managerOf({ codecType: 1 }) });
    const answer = talk(slow.port, ["GET / HTTP/1.1\r\n", "Host: "], {});
    const stop = setInterval(() => clock.advance(500), 5);
    try {
      expect(await answer).toMatch(/^HTTP\/1\.1 408 /);
    } finally {
      clearInterval(stop);
      await slow.close();
    }
  });

  test("that does not finish its body is told 408 when the stream was idle too long", async () => {
    const clock = new FakeClock();
    const port = (backend.address() as { port: number }).port;
    const manager = managerOf({ codecType: 1, streamIdleTimeout: { seconds: 5n, nanos: 0 } });
    const slow = await startRig({
      table: everythingTo("app"),
      clock,
      manager,
      clusters: [new TestUpstream("app", [port])],
    });
    const answer = talk(slow.port, post("Content-Length: 10", "hello"), {});
    const stop = setInterval(() => clock.advance(500), 5);
    try {
      expect(await answer).toMatch(/^HTTP\/1\.1 408 /);
    } finally {
      clearInterval(stop);
      await slow.close();
    }
  });
});

describe("an answer that two readers could read in two ways", () => {
  const answers: ReadonlyArray<readonly [it: string, bytes: string]> = [
    ["two content-lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"],
    [
      "transfer-encoding and content-length",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ],
    ["an unknown transfer-encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"],
    ["a folded field", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"],
    ["a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"],
    ["lines that end in LF alone", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"],
    ["no HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n"],
    ["a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n"],
    ["a status in hexadecimal", "HTTP/1.1 0xc OK\r\n\r\n"],
  ];
  for (const [it, bytes] of answers) {
    test(`with ${it} becomes a 502 that says so`, async () => {
      const sockets = new Set<import("node:net").Socket>();
      const server: TcpServer = createTcpServer((socket) => {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.once("data", () => socket.write(bytes));
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const port = (server.address() as { port: number }).port;
      const strange = await startRig({ table: everythingTo("app"), clusters: [new TestUpstream("app", [port])] });
      const answer = await talk(strange.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", { until: /\n$/ });
      expect(answer).toMatch(/^HTTP\/1\.1 502 /);
      expect(answer).toContain('cluster "app": endpoint "127.0.0.1:');
      expect(strange.records[0]?.flags).toEqual(["UPE"]);
      await strange.close();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
  }
});
