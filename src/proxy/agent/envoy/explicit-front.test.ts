import { connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Scope, silentLogger, systemClock } from "../../../base/index.ts";
import { type Ip, parseIp } from "../../../values/index.ts";
import { proxyLine, readAbsolute, startExplicitFront } from "./explicit-front.ts";

const loopback = "127.0.0.1" as Ip;

function listening(serve: (socket: Socket) => void): Promise<number> {
  const server = createServer(serve);
  onTestFinished(() => void server.close());
  return new Promise((resolve) => {
    server.listen(0, loopback, () => resolve((server.address() as { port: number }).port));
  });
}

/** Stands for Envoy: says back all that it is handed, and closes. */
async function scene() {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  const envoyPort = await listening((socket) => socket.once("data", (bytes) => socket.end(`got ${bytes}`)));
  const own = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, loopback, () => {
      const found = (probe.address() as { port: number }).port;
      probe.close(() => resolve(found));
    });
  });
  await startExplicitFront(
    {
      listen: { ip: loopback, port: own },
      envoyPort,
      resolve: async (host) => (host === "echo.bar.global" ? [parseIp("240.0.0.2")!] : []),
    },
    { clock: systemClock, log: silentLogger },
    scope,
  );
  const say = (...parts: readonly (string | Buffer)[]) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect(own, loopback);
      let said = "";
      let next = 0;
      const write = () => next < parts.length && socket.write(parts[next++]!);
      socket.on("connect", write);
      socket.on("data", (bytes) => {
        said += bytes.toString("latin1");
        write();
      });
      socket.on("close", () => resolve(said));
      socket.on("error", reject);
    });
  return { say };
}

test("what was asked by CONNECT reaches Envoy as a connection to the name's address", async () => {
  const { say } = await scene();
  const said = await say("CONNECT echo.bar.global:9000 HTTP/1.1\r\n\r\n", "hello");
  expect(said).toMatch(/^HTTP\/1\.1 200 .*\r\n\r\ngot PROXY TCP4 127\.0\.0\.1 240\.0\.0\.2 \d+ 9000\r\n/s);
});

test("what was asked by SOCKS 5 does too", async () => {
  const { say } = await scene();
  const name = Buffer.from("echo.bar.global");
  const request = Buffer.concat([Buffer.from([5, 1, 0, 3, name.length]), name, Buffer.from([0x23, 0x28])]);
  const said = await say(Buffer.from([5, 1, 0]), request, "hello");
  expect(said).toContain("got PROXY TCP4 127.0.0.1 240.0.0.2");
  expect(said).toContain(" 9000\r\n");
});

test("a request with a whole URL goes there alone on its connection", async () => {
  const { say } = await scene();
  const said = await say(
    "GET http://echo.bar.global:8000/x HTTP/1.1\r\nhost: a\r\nProxy-Connection: keep-alive\r\n\r\n",
  );
  expect(said).toMatch(
    /^got PROXY TCP4 127\.0\.0\.1 240\.0\.0\.2 \d+ 8000\r\nGET http:\/\/echo\.bar\.global:8000\/x HTTP\/1\.1\r\nhost: a\r\nconnection: close\r\n\r\n$/,
  );
});

const refused = [
  { it: "a name without an address", say: "CONNECT nobody.bar.global:80 HTTP/1.1\r\n\r\n", gets: /^HTTP\/1\.1 502/ },
  { it: "a URL whose name has none", say: "GET http://nobody/ HTTP/1.1\r\n\r\n", gets: /^HTTP\/1\.1 502/ },
  { it: "a request for a path", say: "GET / HTTP/1.1\r\nhost: a\r\n\r\n", gets: /^HTTP\/1\.1 400 .*whole URL/s },
  { it: "a URL with a user", say: "GET http://a@echo.bar.global/ HTTP/1.1\r\n\r\n", gets: /^HTTP\/1\.1 400/ },
  { it: "a head without end", say: `GET http://a/ HTTP/1.1\r\nx: ${"y".repeat(70_000)}`, gets: /^HTTP\/1\.1 400/ },
];
for (const { it, say: text, gets } of refused) {
  test(`${it} is refused, and told why`, async () => {
    const { say } = await scene();
    expect(await say(text)).toMatch(gets);
  });
}

test("an upgrade stays one", () => {
  const read = readAbsolute(
    Buffer.from("GET http://a:80/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, keep-alive\r\n\r\n"),
  );
  expect(read?.head.toString()).toBe(
    "GET http://a:80/ws HTTP/1.1\r\nUpgrade: websocket\r\nconnection: Upgrade\r\n\r\n",
  );
});

test("an address of either family is said in its own", () => {
  expect(proxyLine(5, { ip: parseIp("fd00::9")!, port: 80 })).toBe("PROXY TCP6 ::1 fd00::9 5 80\r\n");
});
