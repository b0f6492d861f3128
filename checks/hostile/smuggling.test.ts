import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectNoInsides } from "./testing/attack.ts";
import { endHeaders, endStream, fields, frame, headers, RawHttp2, types } from "./testing/http2-frames.ts";
import { eventually, type Mesh, pause, readAll, readUntil, startMesh, tunnel } from "./testing/mesh.ts";

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh();
});
afterAll(() => mesh?.close());
beforeEach(() => {
  mesh.echo.forget();
  mesh.admin.forget();
});

const host = "echo.bar.svc.cluster.local";
const hidden = `GET /hidden HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const post = (lines: string, body: string) => `POST /shown HTTP/1.1\r\nHost: ${host}\r\n${lines}\r\n\r\n${body}`;
const chunked = (body: string) => post("Transfer-Encoding: chunked", body);

/** Everything that the server behind saw. */
const seen = () => mesh.echo.seen.join("");
const requests = () => seen().match(/^(GET|POST|HEAD|PUT|OPTIONS) \S+ HTTP\/1\.1/gm) ?? [];

/** Refused with a status, or taken for exactly one request. */
const rows: ReadonlyArray<readonly [it: string, bytes: string, outcome: number | "one"]> = [
  [
    "content-length before transfer-encoding",
    post(`Content-Length: ${5 + hidden.length}\r\nTransfer-Encoding: chunked`, `0\r\n\r\n${hidden}`),
    400,
  ],
  [
    "transfer-encoding before content-length",
    post("Transfer-Encoding: chunked\r\nContent-Length: 4", `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`),
    400,
  ],
  [
    "two transfer-encodings, one of them odd",
    post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", `0\r\n\r\n${hidden}`),
    501,
  ],
  ["transfer-encoding xchunked", post("Transfer-Encoding: xchunked", `0\r\n\r\n${hidden}`), 501],
  ["transfer-encoding identity, chunked", post("Transfer-Encoding: identity, chunked", `0\r\n\r\n${hidden}`), 501],
  [
    "transfer-encoding with a space before the colon",
    post(`Transfer-Encoding : chunked\r\nContent-Length: ${5 + hidden.length}`, `0\r\n\r\n${hidden}`),
    400,
  ],
  ["transfer-encoding with a tab before the colon", post("Transfer-Encoding\t: chunked", `0\r\n\r\n${hidden}`), 400],
  ["transfer-encoding behind a vertical tab", post("Transfer-Encoding: \x0bchunked", `0\r\n\r\n${hidden}`), 400],
  ["transfer-encoding on a folded line", post("Transfer-Encoding:\r\n chunked", `0\r\n\r\n${hidden}`), 400],
  [
    "transfer-encoding behind a bare LF",
    post(`X: y\nTransfer-Encoding: chunked\r\nContent-Length: ${5 + hidden.length}`, `0\r\n\r\n${hidden}`),
    400,
  ],
  [
    "transfer-encoding behind a bare CR",
    post(`X: y\rTransfer-Encoding: chunked\r\nContent-Length: ${5 + hidden.length}`, `0\r\n\r\n${hidden}`),
    400,
  ],
  ["a NUL in front of transfer-encoding", post("\0Transfer-Encoding: chunked", `0\r\n\r\n${hidden}`), 400],
  ["two content-lengths that differ", post(`Content-Length: 0\r\nContent-Length: ${hidden.length}`, hidden), 400],
  ["a list of content-lengths that differ", post(`Content-Length: 0, ${hidden.length}`, hidden), 400],
  ["content-length +0", post("Content-Length: +0", hidden), 400],
  ["content-length 0x0", post("Content-Length: 0x0", hidden), 400],
  ["content-length with a space within", post(`Content-Length: 0 ${hidden.length}`, hidden), 400],
  ["content-length -1", post("Content-Length: -1", hidden), 400],
  ["content-length 2^64", post("Content-Length: 18446744073709551616", hidden), 400],
  ["content-length with a space before the colon", post(`Content-Length : ${hidden.length}`, hidden), 400],
  ["a chunk size that ends in a bare LF", chunked(`1\nZ\r\n0\r\n\r\n${hidden}`), 400],
  ["a chunk whose end is two other bytes", chunked(`1\r\nZQQ0\r\n\r\n${hidden}`), 400],
  ["a chunk size of 2^64", chunked(`10000000000000000\r\n${hidden}`), 413],
  ["a chunk size with a sign", chunked(`+0\r\n\r\n${hidden}`), 400],
  ["a chunk extension with a bare LF", chunked(`1;a\nb\r\nZ\r\n0\r\n\r\n${hidden}`), 400],
  ["a folded trailer", chunked(`0\r\nx: y\r\n z\r\n\r\n${hidden}`), 400],
  [
    "HTTP/1.0 with transfer-encoding",
    `POST /shown HTTP/1.0\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
    400,
  ],
  ["a URL for another host", `GET http://admin.bar.svc.cluster.local:8000/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`, 400],
  ["two hosts", `GET /shown HTTP/1.1\r\nHost: ${host}\r\nHost: admin.bar.svc.cluster.local\r\n\r\n`, 400],
  [
    "the same content-length twice",
    post(`Content-Length: ${hidden.length}\r\nContent-Length: ${hidden.length}`, hidden),
    "one",
  ],
  ["a body that looks like a request", post(`Content-Length: ${hidden.length}`, hidden), "one"],
  ["a chunk that looks like a request", chunked(`${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`), "one"],
  ["a chunk extension that looks like a request", chunked('1;a="GET /hidden HTTP/1.1"\r\nZ\r\n0\r\n\r\n'), "one"],
  [
    "trailers that frame the message",
    chunked(`1\r\nZ\r\n0\r\nContent-Length: ${hidden.length}\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n`),
    "one",
  ],
  [
    "a GET with a body",
    `GET /shown HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
    "one",
  ],
  [
    "a HEAD with a body",
    `HEAD /shown HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
    "one",
  ],
  [
    "content_length beside content-length",
    post(`Content_Length: 0\r\nContent-Length: ${hidden.length}`, hidden),
    "one",
  ],
  [
    "an upgrade to HTTP/2 over cleartext",
    `GET /shown HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n`,
    "one",
  ],
];

describe("two sidecars and a careless server: what can be read in two ways is never two requests", () => {
  for (const [it, bytes, outcome] of rows) {
    test(`${it}: ${outcome === "one" ? "one request" : outcome}`, async () => {
      const refused = await mesh.victim.count("isthmus_http_requests_total", { flag: "DPE" });
      const socket = await tunnel(mesh, host, 8000);
      socket.write(bytes, "latin1");
      if (outcome === "one") {
        const answer = await readUntil(socket, "\r\n\r\n");
        expect(answer).toMatch(/^HTTP\/1\.1 200 /);
        await pause(50);
        socket.destroy();
        expect(requests()[0]).toContain(" /shown ");
        // The hidden one may be there as a body: then the framing that the server gets must say so.
        expect(careless(seen())).toEqual(["/shown"]);
        expect(seen()).not.toMatch(/^(upgrade|http2-settings):/im);
        return;
      }
      const answer = await readAll(socket);
      socket.destroy();
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${outcome} `));
      expect(answer.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
      expectNoInsides(answer);
      expect(seen()).toBe("");
      expect(await mesh.victim.count("isthmus_http_requests_total", { flag: "DPE" })).toBe(refused + 1);
    });
  }

  test("requests sent ahead of their answers are as many as were sent", async () => {
    const socket = await tunnel(mesh, host, 8000);
    socket.write(`${hidden}${hidden}`);
    await readUntil(socket, /HTTP\/1\.1 200[\s\S]*HTTP\/1\.1 200/);
    socket.destroy();
    expect(requests()).toHaveLength(2);
  });

  test("bytes behind an upgrade that the server refuses are no request", async () => {
    const socket = await tunnel(mesh, host, 8000);
    socket.write(
      `GET /refuse HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n${hidden}`,
    );
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 403 /);
    await pause(50);
    expect(careless(seen())).toEqual(["/refuse"]);
  });

  test("bytes behind an upgrade that the server grants reach it as they are, and nobody reads them as a request", async () => {
    const socket = await tunnel(mesh, host, 8000);
    const before = await mesh.victim.count("isthmus_http_requests_total");
    socket.write(
      `GET /ws HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\nEARLY-${hidden}`,
    );
    expect(await readUntil(socket, "\r\n\r\n")).toMatch(/^HTTP\/1\.1 101 /);
    await eventually(seen, (text) => text.includes("EARLY-GET /hidden"));
    socket.destroy();
    await eventually(
      () => mesh.victim.count("isthmus_http_requests_total"),
      (now) => now === before + 2,
    );
  });

  test("CONNECT inside the mesh is refused, and what follows it is not forwarded", async () => {
    const socket = await tunnel(mesh, host, 8000);
    socket.write(`CONNECT ${host}:8000 HTTP/1.1\r\nHost: ${host}:8000\r\n\r\n${hidden}`);
    const answer = await readUntil(socket, "not served");
    expect(answer).toMatch(/^HTTP\/1\.1 403 /);
    await pause(100);
    socket.destroy();
    // At most the next request on the connection, as itself; never as bytes of a tunnel.
    expect(seen()).not.toContain("CONNECT");
  });
});

/** Requests as the careless server's own framing gives them. */
function careless(text: string): string[] {
  const paths: string[] = [];
  let rest = text;
  for (;;) {
    const end = rest.indexOf("\r\n\r\n");
    if (end < 0) return paths;
    const head = rest.slice(0, end);
    paths.push(head.split(" ")[1] ?? "");
    rest = rest.slice(end + 4);
    const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    if (/^transfer-encoding: *chunked/im.test(head)) {
      for (;;) {
        const line = rest.indexOf("\r\n");
        const size = Number.parseInt(rest.slice(0, line), 16);
        rest = rest.slice(line + 2 + size + 2);
        if (size === 0) break;
      }
    } else rest = rest.slice(length);
  }
}

describe("HTTP/2 in front, HTTP/1 behind", () => {
  const pseudo = (more: ReadonlyArray<readonly [string, string]>, change: Readonly<Record<string, string>> = {}) =>
    fields([
      [":method", change["method"] ?? "POST"],
      [":scheme", "http"],
      [":authority", change["authority"] ?? "edge.example"],
      [":path", change["path"] ?? "/shown"],
      ...more,
    ]);
  const bad: ReadonlyArray<readonly [it: string, block: Buffer]> = [
    ["an upper-case name", pseudo([["X-Upper", "y"]])],
    ["transfer-encoding", pseudo([["transfer-encoding", "chunked"]])],
    ["connection", pseudo([["connection", "keep-alive"]])],
    [
      "two content-lengths",
      pseudo([
        ["content-length", "5"],
        ["content-length", "6"],
      ]),
    ],
    ["a content-length with a sign", pseudo([["content-length", "+5"]])],
    ["a request line in the path", pseudo([], { path: "/ HTTP/1.1\r\nHost: evil\r\n\r\n" })],
    ["a space in the path", pseudo([], { path: "/a b" })],
    ["a request line in the method", pseudo([], { method: "GET / HTTP/1.1\r\nx:" })],
    ["a line end in the authority", pseudo([], { authority: "a\r\nx: y" })],
    ["a user in the authority", pseudo([], { authority: "user@edge.example" })],
    ["another host beside the authority", pseudo([["host", "admin.example"]])],
    [
      "a pseudo-field after a field",
      fields([
        [":method", "GET"],
        [":scheme", "http"],
        ["x", "y"],
        [":path", "/"],
        [":authority", "a"],
      ]),
    ],
    [
      "two paths",
      fields([
        [":method", "GET"],
        [":scheme", "http"],
        [":path", "/a"],
        [":path", "/b"],
        [":authority", "a"],
      ]),
    ],
    ["an unknown pseudo-field", pseudo([[":smuggle", "y"]])],
  ];
  for (const [it, block] of bad) {
    test(`${it} is refused, and the server behind sees nothing`, async () => {
      const attacker = await RawHttp2.open(mesh.ports.edge);
      await attacker.send(headers(1, block, endHeaders));
      await attacker.send(frame(types.data, endStream, 1, Buffer.from("hello")));
      await eventually(
        () => attacker.closed || attacker.of(1).some(({ type }) => type === types.reset || type === types.headers),
        Boolean,
      );
      const answered = attacker.of(1).find(({ type }) => type === types.headers);
      // A status of the 400s, as the codec's table or literal has it; never a 200.
      if (answered) expect(answered.payload[0]).not.toBe(0x88);
      attacker.close();
      expect(seen()).toBe("");
    });
  }

  const dropped: typeof bad = [
    ["a line end in a value", pseudo([["x", `y\r\n\r\n${hidden}`]])],
    ["a bare LF in a value", pseudo([["x", `y\nz: a`]])],
    ["a NUL in a value", pseudo([["x", "y\0"]])],
    ["a line end in a name", pseudo([["x: y\r\nz", "a"]])],
    ["a colon in a name", pseudo([["transfer-encoding: chunked\r\nx", "y"]])],
  ];
  for (const [it, block] of dropped) {
    test(`a field with ${it} does not reach the server behind, not even in part`, async () => {
      const attacker = await RawHttp2.open(mesh.ports.edge);
      await attacker.send(headers(1, block));
      await eventually(() => attacker.closed || attacker.of(1).length > 0, Boolean);
      attacker.close();
      expect(seen()).not.toMatch(/hidden|^(x|z|transfer-encoding):/m);
      expect(requests().length).toBeLessThanOrEqual(1);
    });
  }

  test("less or more data than content-length says is no whole request to the server behind", async () => {
    for (const [length, body] of [
      ["3", `abc${hidden}`],
      ["200", "abc"],
    ] as const) {
      mesh.echo.forget();
      const attacker = await RawHttp2.open(mesh.ports.edge);
      await attacker.send(headers(1, pseudo([["content-length", length]]), endHeaders));
      await attacker.send(frame(types.data, endStream, 1, Buffer.from(body)));
      await eventually(() => attacker.closed || attacker.of(1).length > 0, Boolean);
      await pause(50);
      attacker.close();
      expect(seen()).not.toContain("/hidden");
    }
  });

  test("a cookie in a thousand pieces is refused or small", async () => {
    const attacker = await RawHttp2.open(mesh.ports.edge);
    await attacker.send(
      headers(
        1,
        pseudo(
          Array.from({ length: 1000 }, () => ["cookie", "a=b"] as const),
          { method: "GET" },
        ),
      ),
    );
    await eventually(() => attacker.closed || attacker.of(1).length > 0, Boolean);
    attacker.close();
    expect(seen()).toBe("");
  });
});
