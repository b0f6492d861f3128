import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import WebSocket from "ws";
import { detailsServer } from "./bookinfo/details.ts";
import { productpageServer } from "./bookinfo/productpage.ts";
import { ratingsServer } from "./bookinfo/ratings.ts";
import { reviewsServer, reviewsSettings } from "./bookinfo/reviews.ts";
import { dial, wayOut } from "./dial.ts";
import { callEcho, grpcEchoServer } from "./grpc-echo.ts";
import { FrameReader, readEcho, writeEcho } from "./grpc-frame.ts";
import { httpbinServer } from "./httpbin/server.ts";
import { tcpEchoServer } from "./tcp-echo.ts";

async function up(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    (server as Partial<import("node:http").Server>).closeAllConnections?.();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

afterEach(() => vi.unstubAllEnvs());

describe("tcp-echo", () => {
  /** Sends in pieces, half-closes, and reads to the end. */
  async function say(port: number, ...pieces: string[]): Promise<string> {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    for (const piece of pieces) socket.write(piece);
    socket.end();
    return text(socket);
  }
  test("says everything back after the client has ended its side", async () => {
    const long = "x".repeat(3 << 20);
    expect(await say(await up(tcpEchoServer()), long)).toBe(long);
  });
  test("may speak first", async () => {
    expect(await say(await up(tcpEchoServer({ greeting: "welcome" })), "a")).toBe("welcome\na");
  });
  test("marks each line with the prefix, once", async () => {
    expect(await say(await up(tcpEchoServer({ prefix: "hello" })), "a\nb", "c\n")).toBe("hello a\nhello bc\n");
  });
});

describe("grpc-echo", () => {
  test("answers one call", async () => {
    const port = await up(grpcEchoServer());
    const result = await callEcho({ target: `127.0.0.1:${port}`, texts: ["hi"], streaming: false });
    expect(result).toMatchObject({ grpcStatus: 0, replies: [{ text: "hi" }] });
  });
  test("streams both ways, each message answered before the next is sent", async () => {
    const port = await up(grpcEchoServer());
    const texts = Array.from({ length: 50 }, (_, i) => `${i} ${"x".repeat(i * 1000)}`);
    const result = await callEcho({ target: `127.0.0.1:${port}`, texts, streaming: true });
    expect(result.grpcStatus).toBe(0);
    expect(result.replies.map((reply) => reply.text)).toEqual(texts);
  });
  test("frames that come byte by byte are the same messages", () => {
    const bytes = Buffer.concat([
      writeEcho({ text: "one" }),
      writeEcho({ text: "", caller: "c" }),
      writeEcho({ text: "é".repeat(200) }),
    ]);
    const reader = new FrameReader();
    const messages = [...bytes].flatMap((byte) => reader.take(Buffer.from([byte]))).map(readEcho);
    expect(messages).toEqual([{ text: "one" }, { text: "", caller: "c" }, { text: "é".repeat(200) }]);
  });
});

describe("WebSocket", () => {
  test("the client of another maker is understood, fragments and pings included", async () => {
    const port = await up(httpbinServer());
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
    onTestFinished(() => socket.terminate());
    await new Promise((resolve) => socket.once("open", resolve));
    const pong = new Promise((resolve) => socket.once("pong", resolve));
    const message = new Promise<Buffer>((resolve) => socket.once("message", resolve));
    socket.send("frag", { fin: false });
    socket.ping("p");
    socket.send("ment", { fin: true });
    expect((await message).toString()).toBe("fragment");
    expect(String(await pong)).toBe("p");
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.close(1000);
    expect(await closed).toBe(1000);
  });
});

describe("the way out", () => {
  const rows = [
    { it: "nothing said", env: {}, gets: { kind: "direct" } },
    {
      it: "an HTTP proxy",
      env: { http_proxy: "http://127.0.0.1:15080" },
      gets: { kind: "connect", host: "127.0.0.1", port: 15080 },
    },
    {
      it: "a SOCKS proxy",
      env: { ALL_PROXY: "socks5h://[::1]:15080" },
      gets: { kind: "socks5", host: "::1", port: 15080 },
    },
    { it: "no scheme", env: { HTTP_PROXY: "proxy:3128" }, gets: { kind: "connect", host: "proxy", port: 3128 } },
  ];
  for (const { it, env, gets } of rows) test(`${it} gives ${gets.kind}`, () => expect(wayOut(env)).toEqual(gets));

  test("CONNECT opens a connection that can be half closed", async () => {
    const echo = await up(tcpEchoServer());
    const proxy = createHttpServer();
    proxy.on("connect", (_request, socket) => {
      const onward = connect({ port: echo, host: "127.0.0.1", allowHalfOpen: true });
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.pipe(onward).pipe(socket);
    });
    const port = await up(proxy);
    const socket = await dial("name.global", 9000, { kind: "connect", host: "127.0.0.1", port });
    socket.write("through");
    expect(String(await new Promise((resolve) => socket.once("data", resolve)))).toBe("through");
    socket.destroy();
  });
  test("SOCKS5 is asked for the name itself", async () => {
    let asked: Buffer | undefined;
    const port = await up(
      createServer((socket) => {
        socket.once("data", () => {
          socket.write(Buffer.from([5, 0]));
          socket.once("data", (bytes: Buffer) => {
            asked = bytes;
            socket.write(Buffer.concat([Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Buffer.from("first bytes")]));
          });
        });
      }),
    );
    const socket = await dial("name.global", 9000, { kind: "socks5", host: "127.0.0.1", port });
    expect(String(await new Promise((resolve) => socket.once("data", resolve)))).toBe("first bytes");
    expect(asked?.toString("latin1", 5, 5 + 11)).toBe("name.global");
    expect(asked?.readUInt16BE(16)).toBe(9000);
    socket.destroy();
  });
});

describe("Bookinfo", () => {
  async function bookinfo(version: string): Promise<string> {
    for (const [name, server] of [
      ["RATINGS", ratingsServer()],
      ["DETAILS", detailsServer()],
      ["REVIEWS", reviewsServer(reviewsSettings({ SERVICE_VERSION: version }))],
    ] as const) {
      vi.stubEnv(`${name}_HOSTNAME`, "127.0.0.1");
      vi.stubEnv(`${name}_SERVICE_PORT`, String(await up(server)));
    }
    return `http://127.0.0.1:${await up(productpageServer())}`;
  }
  const reviewsOf = async (base: string) =>
    (await (await fetch(`${base}/api/v1/products/0/reviews`)).json()) as { reviews: [{ rating?: object }] };
  const rows = [
    { version: "v1", rating: undefined },
    { version: "v2", rating: { stars: 5, color: "black" } },
    { version: "v3", rating: { stars: 5, color: "red" } },
  ];
  for (const { version, rating } of rows) {
    test(`reviews ${version} gives ${rating ? `${rating.color} stars` : "no stars"}`, async () => {
      const base = await bookinfo(version);
      const answer = await reviewsOf(base);
      expect(answer.reviews[0].rating).toEqual(rating);
      const page = await (await fetch(`${base}/productpage`)).text();
      expect(page).toContain("William Shakespeare");
      expect(page.includes("★")).toBe(rating !== undefined);
    });
  }
  test("without ratings the reviews say so and are still there", async () => {
    const base = await bookinfo("v2");
    vi.stubEnv("RATINGS_SERVICE_PORT", "1");
    vi.spyOn(console, "error").mockImplementation(() => {});
    const answer = await reviewsOf(base);
    expect(answer.reviews[0].rating).toEqual({ error: "Ratings service is currently unavailable" });
  });
  test("who logs in is passed on as end-user, and traces are passed on", async () => {
    const base = await bookinfo("v1");
    let seen: import("node:http").IncomingHttpHeaders = {};
    const spy = createHttpServer((request, response) => {
      seen = request.headers;
      response.end('{"reviews":[]}');
    });
    vi.stubEnv("REVIEWS_SERVICE_PORT", String(await up(spy)));
    const login = await fetch(`${base}/login`, {
      method: "POST",
      body: new URLSearchParams({ username: "jason", passwd: "" }),
      redirect: "manual",
    });
    const cookie = login.headers.get("set-cookie")!.split(";")[0]!;
    await fetch(`${base}/productpage`, {
      headers: { cookie, "x-request-id": "r1", traceparent: "t1", "x-other": "o" },
    });
    expect(seen).toMatchObject({ "end-user": "jason", "x-request-id": "r1", traceparent: "t1" });
    expect(seen["x-other"]).toBeUndefined();
  });
  test("what a caller posts is what the next one reads", async () => {
    const base = `http://127.0.0.1:${await up(ratingsServer())}`;
    await fetch(`${base}/ratings/0`, { method: "POST", body: '{"Reviewer1":1}' });
    expect(await (await fetch(`${base}/ratings/0`)).json()).toEqual({ id: 0, ratings: { Reviewer1: 1 } });
    expect((await fetch(`${base}/ratings/0`, { method: "POST", body: "[]" })).status).toBe(400);
  });
});
