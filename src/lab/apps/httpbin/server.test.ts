import { request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { openWebSocket } from "../ws-client.ts";
import { httpbinServer } from "./server.ts";

const server = httpbinServer();
let port = 0;
let base = "";
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
  base = `http://127.0.0.1:${port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** All that comes back for `head`, the connection being closed by the server. */
function raw(head: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(head);
  return text(socket);
}

const json = async (path: string, init?: RequestInit) =>
  (await (await fetch(`${base}${path}`, init)).json()) as Record<string, unknown>;

describe("what was asked is said back", () => {
  test("headers keep their spelling, and one sent twice has its values joined by a comma", async () => {
    const answer = await raw(
      "GET /headers HTTP/1.1\r\nHost: a\r\nX-ODD-case: 1\r\nx-odd-CASE: 2\r\nConnection: close\r\n\r\n",
    );
    expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")))).toEqual({
      headers: { Connection: "close", Host: "a", "X-ODD-case": "1,2" },
    });
  });
  test("a header named __proto__ is a header", async () => {
    const answer = await raw("GET /headers HTTP/1.1\r\nHost: a\r\n__proto__: x\r\nConnection: close\r\n\r\n");
    expect(answer).toContain('"__proto__": "x"');
  });
  test("HEAD answers as GET does, without the body", async () => {
    const answer = await raw("HEAD /headers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toMatch(/content-length: \d\d/i);
    expect(answer.endsWith("\r\n\r\n")).toBe(true);
  });
  test("arguments given twice are a list", async () => {
    expect(await json("/get?a=1&b=2&a=3")).toMatchObject({
      args: { a: ["1", "3"], b: "2" },
      origin: "127.0.0.1",
      url: `${base}/get?a=1&b=2&a=3`,
    });
  });
  test("a form, a JSON and a text each end where they belong", async () => {
    expect(await json("/post", { method: "POST", body: new URLSearchParams({ a: "1" }) })).toMatchObject({
      form: { a: "1" },
      data: "",
      json: null,
    });
    expect(await json("/put", { method: "PUT", body: '{"a":1}' })).toMatchObject({ data: '{"a":1}', json: { a: 1 } });
    expect(await json("/anything/x", { method: "PATCH", body: "plain" })).toMatchObject({
      data: "plain",
      json: null,
      method: "PATCH",
    });
  });
  test("a multipart body is fields and files", async () => {
    const form = new FormData();
    form.set("field", "value");
    form.set("file", new Blob(["content"]), "a.txt");
    expect(await json("/post", { method: "POST", body: form })).toMatchObject({
      form: { field: "value" },
      files: { file: "content" },
    });
  });
  test("of a body too long to hold, the beginning, the length and the hash are said", async () => {
    const body = Buffer.alloc(5 << 20, 97);
    const answer = await json("/post?digest=sha256", { method: "POST", body });
    expect(answer.body_bytes).toBe(body.length);
    expect(String(answer["data"]).length).toBe(1 << 20);
    expect(answer.data_truncated).toBe(true);
    expect(answer.sha256).toMatch(/^[0-9a-f]{64}$/);
  });
  test("/echo answers before the request has ended", async () => {
    const call = request({ port, host: "127.0.0.1", method: "POST", path: "/echo" });
    call.write("first");
    const response = await new Promise<import("node:http").IncomingMessage>((resolve) =>
      call.once("response", resolve),
    );
    const first = await new Promise<Buffer>((resolve) => response.once("data", resolve));
    expect(first.toString()).toBe("first");
    call.end("second");
    expect(await text(response)).toBe("second");
  });
});

describe("answers made to order", () => {
  const statuses = [
    ["/status/418", 418],
    ["/status/204", 204],
    ["/status/503:1,200:0", 503],
    ["/status/99", 400],
    ["/status/abc", 400],
    ["/nowhere", 404],
    ["/headers/", 404],
    ["/basic-auth/u/p", 401],
    ["/hidden-basic-auth/u/p", 404],
    ["/range/0", 200],
    ["/%ff/x", 404],
  ] as const;
  for (const [path, status] of statuses) {
    test(`${path} answers ${status}`, async () => expect((await fetch(`${base}${path}`)).status).toBe(status));
  }
  test("a method that a path does not have is refused with those it has", async () => {
    const response = await fetch(`${base}/get`, { method: "POST" });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toContain("GET");
  });
  test("every answer names the pod", async () => {
    expect((await fetch(`${base}/get`)).headers.get("x-served-by")).toBeTruthy();
  });
  test("bytes come in the number asked for, the same for the same seed", async () => {
    const get = async (path: string) => Buffer.from(await (await fetch(`${base}${path}`)).arrayBuffer());
    const bytes = await get("/bytes/200000?seed=7");
    expect(bytes.length).toBe(200_000);
    expect(await get("/bytes/200000?seed=7")).toEqual(bytes);
    expect((await get("/stream-bytes/100000?chunk_size=999")).length).toBe(100_000);
  });
  test("a client that leaves in the middle of a long body leaves nothing running", async () => {
    let closed = false;
    server.once("request", (_request, response) => response.once("close", () => (closed = true)));
    const call = request({ port, host: "127.0.0.1", path: "/bytes/1000000000", agent: false });
    call.on("error", () => {});
    call.once("response", () => call.destroy());
    call.end();
    await vi.waitFor(() => expect(closed).toBe(true));
  });
  test("a stream is that many lines of JSON", async () => {
    const lines = (await (await fetch(`${base}/stream/3`)).text()).trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).id)).toEqual([0, 1, 2]);
  });
  test("drip sends what it was asked for", async () => {
    expect(await (await fetch(`${base}/drip?numbytes=7&duration=0.05`)).text()).toBe("*******");
  });
  test("redirects count down to /get", async () => {
    const response = await fetch(`${base}/redirect/3`);
    expect([response.url, response.status]).toEqual([`${base}/get`, 200]);
  });
  test("a redirect cannot carry a new line into the head", async () => {
    const answer = await raw(
      "GET /redirect-to?url=/x%0d%0aSet-Cookie:a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    expect(answer.toLowerCase()).not.toContain("\r\nset-cookie");
  });
  test("response-headers sets what is asked, and passes over what no header can be", async () => {
    const response = await fetch(`${base}/response-headers?x-a=1&bad%0aname=2`);
    expect(response.headers.get("x-a")).toBe("1");
    expect(await response.json()).toMatchObject({ "x-a": "1", "bad\nname": "2" });
  });
  test("gzip says that it is", async () => {
    expect(await json("/gzip")).toMatchObject({ gzipped: true });
    const bytes = await new Promise<Buffer>((resolve, reject) => {
      const call = request({ port, host: "127.0.0.1", path: "/gzip", agent: false });
      call.once("response", (response) => buffer(response).then(resolve, reject));
      call.end();
    });
    expect(JSON.parse(gunzipSync(bytes).toString())).toMatchObject({ gzipped: true });
  });
  test("etag and cache honour conditions", async () => {
    const status = async (path: string, headers: Record<string, string>) =>
      (await fetch(`${base}${path}`, { headers })).status;
    expect(await status("/etag/v1", { "if-none-match": '"v1"' })).toBe(304);
    expect(await status("/etag/v1", { "if-match": '"v2"' })).toBe(412);
    expect(await status("/cache", { "if-none-match": "x" })).toBe(304);
  });
  test("trailers come after the body", async () => {
    expect(await raw("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).toContain("x-done: yes\r\n");
  });
  test("nonsense on the wire gets 400", async () => {
    expect(await raw("nonsense\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe("/ws", () => {
  test("says each message back, whatever its length, and closes when asked", async () => {
    const lengths = [0, 1, 125, 126, 65535, 65536, 200_000];
    const back: number[] = [];
    const code = await new Promise<number>((resolve, reject) => {
      openWebSocket(new URL(`ws://127.0.0.1:${port}/ws`), {
        message(payload) {
          back.push(payload.length);
          if (back.length === lengths.length) peer?.close();
        },
        closed: resolve,
      }).then((opened) => {
        peer = opened;
        for (const length of lengths) opened.send(Buffer.alloc(length, 120));
      }, reject);
      let peer: Awaited<ReturnType<typeof openWebSocket>> | undefined;
    });
    expect(back).toEqual(lengths);
    expect(code).toBe(1000);
  });
  test("is not to be had at another path", async () => {
    await expect(openWebSocket(new URL(`ws://127.0.0.1:${port}/get`), { message() {}, closed() {} })).rejects.toThrow(
      "HTTP 400",
    );
  });
});
