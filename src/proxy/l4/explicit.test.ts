import fc from "fast-check";
import { expect, test } from "vitest";
import type { Ip } from "../../values/index.ts";
import {
  httpManager,
  inspectors,
  listener,
  routes,
  socketAddress,
  staticCluster,
  tcpProxy,
} from "../testdata/resources.ts";
import { dial, echo, readAll, readBytes, scene, server } from "../testdata/scene.ts";
import { readOpening, readSocksRequest } from "./explicit.ts";

async function explicitScene() {
  const tcp = await echo();
  const http = await server((socket) => {
    socket.once("data", (chunk: Buffer) => {
      const body = chunk.toString().split("\r\n")[0]!;
      socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
  });
  const { proxy } = await scene(
    {
      clusters: [staticCluster("tcp", [tcp]), staticCluster("http", [http]), staticCluster("nowhere", [])],
      routes: [routes("8000", "http")],
      listeners: [
        listener("explicit", {
          address: socketAddress("127.0.0.1", 0),
          metadata: { filterMetadata: { isthmus: { explicit: true } } },
          defaultFilterChain: { filters: [tcpProxy("nowhere")] },
        }),
        listener("0.0.0.0_8000", {
          address: socketAddress("0.0.0.0", 8000),
          bindToPort: false,
          listenerFilters: inspectors("http_inspector"),
          filterChains: [{ filters: [httpManager("8000")] }],
        }),
        listener("240.0.0.3_9000", {
          address: socketAddress("240.0.0.3", 9000),
          bindToPort: false,
          filterChains: [{ filters: [tcpProxy("tcp")] }],
        }),
      ],
    },
    {
      resolveDestination: (host) =>
        Promise.resolve(
          host === "echo.bar.global" ? ["240.0.0.3" as Ip] : host === "httpbin.bar.global" ? ["240.0.0.2" as Ip] : [],
        ),
    },
  );
  return proxy.addressesOf("explicit")[0]!;
}

const socks = (host: string, port: number) =>
  Buffer.concat([Buffer.from([5, 1, 0, 3, host.length]), Buffer.from(host), Buffer.from([port >> 8, port & 255])]);

test("CONNECT leads to the outbound listener of the name's address", async () => {
  const socket = await dial(await explicitScene());
  socket.write("CONNECT echo.bar.global:9000 HTTP/1.1\r\nHost: echo.bar.global:9000\r\n\r\nearly ");
  const established = "HTTP/1.1 200 Connection established\r\n\r\n";
  socket.end("late");
  expect((await readAll(socket)).text).toBe(`${established}early late`);
});

test("SOCKS 5 leads there too, with the name resolved here", async () => {
  const socket = await dial(await explicitScene());
  socket.write(Buffer.from([5, 1, 0]));
  expect([...(await readBytes(socket, 2))]).toEqual([5, 0]);
  socket.write(socks("echo.bar.global", 9000));
  expect([...(await readBytes(socket, 10))].slice(0, 2)).toEqual([5, 0]);
  socket.end("through socks");
  expect((await readAll(socket)).text).toBe("through socks");
});

test("a request with a whole URL is routed by the listener of its port", async () => {
  const socket = await dial(await explicitScene());
  socket.write(
    "GET http://httpbin.bar.global:8000/headers HTTP/1.1\r\nHost: httpbin.bar.global:8000\r\nConnection: close\r\n\r\n",
  );
  expect((await readAll(socket)).text).toMatch(/^HTTP\/1.1 200 OK[\s\S]*GET \/headers HTTP\/1.1$/);
});

const socksSays = (...bytes: number[]) =>
  new RegExp(`^${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`);

const refusals: ReadonlyArray<readonly [string, string | Buffer, RegExp]> = [
  [
    "a name without an address",
    "CONNECT nowhere.example:9000 HTTP/1.1\r\n\r\n",
    /^HTTP\/1.1 502 [\s\S]*"nowhere.example" has no address/,
  ],
  [
    "a port that no service has",
    "CONNECT echo.bar.global:9001 HTTP/1.1\r\n\r\n",
    /^HTTP\/1.1 502 [\s\S]*no service of the mesh listens/,
  ],
  ["a CONNECT without a port", "CONNECT echo.bar.global HTTP/1.1\r\n\r\n", /^HTTP\/1.1 400 /],
  ["garbage", "\x16\x03\x01", /^HTTP\/1.1 400 /],
  ["SOCKS 4", Buffer.from([4, 1, 0, 80]), /^HTTP\/1.1 400 /],
  ["SOCKS with passwords only", Buffer.from([5, 1, 2]), socksSays(5, 0xff)],
  [
    "SOCKS for a name without an address",
    Buffer.concat([Buffer.from([5, 1, 0]), socks("nowhere.example", 80)]),
    socksSays(5, 0, 5, 4),
  ],
  [
    "SOCKS BIND",
    Buffer.concat([Buffer.from([5, 1, 0]), Buffer.from([5, 2, 0, 1, 1, 2, 3, 4, 0, 80])]),
    socksSays(5, 0, 5, 7),
  ],
];
for (const [name, send, wanted] of refusals)
  test(`${name} is refused with its reason`, async () => {
    const socket = await dial(await explicitScene());
    socket.write(send);
    expect((await readAll(socket)).text).toMatch(wanted);
  });

test("whatever comes first has an outcome", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      expect(["more", "socks", "connect", "http", "wrong"]).toContain(readOpening(Buffer.from(bytes)).kind);
      expect(["more", "connect", "wrong"]).toContain(readSocksRequest(Buffer.from(bytes)).kind);
    }),
  );
});
