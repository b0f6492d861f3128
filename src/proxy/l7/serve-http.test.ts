import { createServer, type RequestListener, type Server } from "node:http";
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { connect, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import type { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { frame } from "./testing/http2-frame.ts";
import { everythingTo, managerOf, type Rig, startRig, TestUpstream, tableOf, talk } from "./testing/rig.ts";

let rig: Rig | undefined;
const closers: Array<() => Promise<void> | void> = [];

async function listen(server: Server | Http2Server | TcpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

function backend(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  closers.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  return listen(server);
}

/** A server that says these bytes to each connection when the first of a request have come. */
function rawBackend(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  return listen(server);
}

function http2Backend(
  onStream: (stream: ServerHttp2Stream, path: string, headers: Record<string, unknown>) => void,
): Promise<number> {
  const server = createHttp2Server();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, headers[":path"] ?? "", headers);
  });
  closers.push(() => {
    for (const session of sessions) session.destroy();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  return listen(server);
}

async function proxyTo(
  port: number,
  more: Parameters<typeof startRig>[0] = {},
): Promise<{ rig: Rig; upstream: TestUpstream }> {
  const upstream = new TestUpstream("app", [port]);
  rig = await startRig({ table: everythingTo("app"), clusters: [upstream], ...more });
  return { rig, upstream };
}

function http2Client(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  closers.unshift(() => session.destroy());
  return session;
}

interface Http2Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
  readonly trailers: Record<string, unknown> | undefined;
}

function ask(session: ClientHttp2Session, headers: Record<string, string>, body?: string): Promise<Http2Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":authority": "a", ":path": "/", ...headers }, { endStream: body === undefined });
    let got: Record<string, unknown> = {};
    let trailers: Record<string, unknown> | undefined;
    let text = "";
    stream.on("response", (given) => {
      got = given;
    });
    stream.on("trailers", (given) => {
      trailers = given;
    });
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("error", reject);
    stream.on("close", () => resolve({ status: Number(got[":status"]), headers: got, body: text, trailers }));
    if (body !== undefined) stream.end(body);
  });
}

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await rig?.close();
  expect(rig?.sockets.size ?? 0).toBe(0);
  rig = undefined;
});

const get = (path = "/", fields = "") => `GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`;

describe("a request through the proxy", () => {
  test("reaches the cluster of its route and the answer comes back", async () => {
    const port = await backend((request, response) => {
      response.setHeader("x-saw", `${request.method} ${request.url} ${request.headers.host}`);
      response.end("hello");
    });
    const { rig, upstream } = await proxyTo(port);
    const answer = await talk(rig.port, "GET /a/../b?q=%2e HTTP/1.1\r\nHost: Example.org\r\n\r\n", { until: "hello" });
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toContain("x-saw: GET /b?q=%2e Example.org\r\n");
    expect(answer).toContain("server: isthmus\r\n");
    expect(rig.records).toMatchObject([
      { responseCode: 200, method: "GET", details: "via_upstream", flags: [], upstreamCluster: "app", bytesSent: 5 },
    ]);
    expect(upstream.outcomes).toEqual(["success"]);
    const text = await rig.metrics.text();
    expect(text).toContain('isthmus_http_requests_total{code_class="2xx",flag="-"} 1');
    expect(text).toContain("isthmus_http_requests_active 0");
  });

  test("many on one connection, sent ahead, are answered in order over one upstream connection", async () => {
    const port = await backend((request, response) => response.end(`[${request.url}]`));
    const { rig, upstream } = await proxyTo(port);
    const requests = Array.from({ length: 50 }, (_, i) => get(`/${i}`)).join("");
    const answer = await talk(rig.port, requests, { until: "[/49]" });
    expect(answer.match(/\[\/\d+\]/g)).toEqual(Array.from({ length: 50 }, (_, i) => `[/${i}]`));
    expect(upstream.connects).toBe(1);
  });

  test("is the same in whatever pieces it comes", async () => {
    const port = await backend((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => response.end(`<${body} ${request.trailers["x-sum"]}>`));
    });
    const { rig } = await proxyTo(port);
    const bytes =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\n\r\n";
    for (let cut = 1; cut < bytes.length; cut++)
      expect(await talk(rig.port, [bytes.slice(0, cut), bytes.slice(cut)], { until: ">" })).toContain("<hello! 7>");
  });

  test("with a body of known length keeps the length", async () => {
    const port = await backend((request, response) => {
      request.resume();
      request.on("end", () => response.end(`<${request.headers["content-length"]}>`));
    });
    const { rig } = await proxyTo(port);
    expect(
      await talk(rig.port, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", { until: ">" }),
    ).toContain("<5>");
  });

  test("HEAD, 204 and 304 have no body and leave the connection usable", async () => {
    const port = await backend((request, response) => {
      if (request.url === "/304") response.writeHead(304, { etag: "x" });
      else if (request.url === "/204") response.writeHead(204);
      else response.setHeader("content-length", "5");
      response.end(request.method === "HEAD" || request.url !== "/" ? undefined : "hello");
    });
    const { rig } = await proxyTo(port);
    const answer = await talk(rig.port, `HEAD / HTTP/1.1\r\nHost: a\r\n\r\n${get("/204")}${get("/304")}${get("/")}`, {
      until: "hello",
    });
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 204", "HTTP/1.1 304", "HTTP/1.1 200"]);
    expect(answer.split("\r\n\r\n")[1]).toMatch(/^HTTP\/1\.1 204/);
  });

  test("of HTTP/1.0 is answered without chunks, and the connection closed", async () => {
    const port = await backend((_request, response) => {
      response.write("a");
      setImmediate(() => response.end("b"));
    });
    const { rig } = await proxyTo(port);
    const answer = await talk(rig.port, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    expect(answer).toContain("connection: close\r\n");
    expect(answer).not.toContain("chunked");
    expect(answer.endsWith("\r\n\r\nab")).toBe(true);
  });

  test("an answer that ends with its connection comes through whole", async () => {
    const port = await rawBackend((socket) =>
      socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\n\r\nall of it")),
    );
    const { rig } = await proxyTo(port);
    const answer = await talk(rig.port, get(), { until: "0\r\n\r\n" });
    expect(answer).toContain("9\r\nall of it\r\n0\r\n\r\n");
  });

  test("expect: 100-continue is asked of the server, and its 100 comes back before the body goes", async () => {
    const order: string[] = [];
    const port = await rawBackend((socket) => {
      socket.on("data", (chunk) => {
        const text = chunk.toString();
        order.push(text.includes("expect: 100-continue") ? "head" : text);
        if (order.length === 1) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
        else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
      });
    });
    const { rig } = await proxyTo(port);
    const socket = connect(rig.port, "127.0.0.1");
    let got = "";
    await new Promise<void>((resolve) => {
      socket.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
      socket.on("data", (chunk) => {
        got += chunk;
        if (got.endsWith("Continue\r\n\r\n")) socket.write("body");
        if (got.endsWith("done")) resolve();
      });
    });
    socket.destroy();
    expect(order).toEqual(["head", "body"]);
  });

  test("other informational answers pass", async () => {
    const port = await rawBackend((socket) =>
      socket.once("data", () =>
        socket.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
      ),
    );
    const { rig } = await proxyTo(port);
    const answer = await talk(rig.port, get(), { until: "ok" });
    expect(answer).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK/);
  });

  test("an answer that comes before the request is whole reaches the client", async () => {
    const port = await rawBackend((socket) =>
      socket.once("data", () => socket.write("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig")),
    );
    const { rig, upstream } = await proxyTo(port);
    const answer = await talk(rig.port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome", {
      until: "big",
    });
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    await expect.poll(() => upstream.open.size).toBe(0);
  });

  test("half-closed by its client is still answered", async () => {
    const port = await backend((request, response) => {
      request.resume();
      setTimeout(() => response.end("late"), 30);
    });
    const { rig } = await proxyTo(port);
    expect(await talk(rig.port, get(), { end: true })).toContain("late");
  });
});

describe("what goes wrong upstream", () => {
  test("no listener is a 503 that names cluster and endpoint", async () => {
    const { rig } = await proxyTo(1);
    const answer = await talk(rig.port, get(), { until: "refused" });
    expect(answer).toMatch(/^HTTP\/1\.1 503 /);
    expect(answer).toContain('upstream connect error: cluster "app": endpoint "127.0.0.1:1": connection refused');
    expect(rig.records[0]).toMatchObject({ responseCode: 503, flags: ["UF"] });
  });

  test("no cluster, no route table and no route say so", async () => {
    rig = await startRig({ table: everythingTo("nowhere") });
    expect(await talk(rig.port, get(), { until: "not there" })).toMatch(
      / 503 .*cluster "nowhere", which is not there/s,
    );
    rig.table = undefined;
    expect(await talk(rig.port, get(), { until: "control plane" })).toMatch(/^HTTP\/1\.1 404 /);
    rig.table = tableOf({ name: "test", virtualHosts: [] });
    expect(await talk(rig.port, get(), { until: "route table" })).toMatch(/^HTTP\/1\.1 404 /);
    expect(rig.records.map(({ flags }) => flags[0])).toEqual(["NC", "NR", "NR"]);
  });

  test("a pooled connection that the server has closed is replaced without a word", async () => {
    let connections = 0;
    const port = await rawBackend((socket) => {
      connections++;
      let answered = false;
      socket.on("data", () => {
        // The first request is answered; the second one meets a closed door.
        if (answered) return void socket.resetAndDestroy();
        answered = true;
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
    });
    const { rig } = await proxyTo(port);
    for (let i = 0; i < 5; i++) expect(await talk(rig.port, get(), { until: "ok" })).toMatch(/ 200 OK/);
    expect(connections).toBe(5);
    expect(rig.records.every(({ flags }) => flags.length === 0)).toBe(true);
  });

  test("a POST whose connection breaks is not sent twice", async () => {
    let seen = 0;
    const port = await rawBackend((socket) => {
      let answered = false;
      socket.on("data", () => {
        seen++;
        if (answered) return void socket.resetAndDestroy();
        answered = true;
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
    });
    const { rig } = await proxyTo(port);
    const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    expect(await talk(rig.port, post, { until: "ok" })).toMatch(/ 200 /);
    expect(await talk(rig.port, post, { until: /\n$/ })).toMatch(/ 503 /);
    expect(seen).toBe(2);
    expect(rig.records[1]?.flags).toEqual(["UC"]);
  });

  const retrying = (on: string) =>
    tableOf({
      name: "test",
      virtualHosts: [
        {
          name: "all",
          domains: ["*"],
          includeRequestAttemptCount: true,
          routes: [
            {
              match: { pathSpecifier: { case: "prefix", value: "/" } },
              action: {
                case: "route",
                value: {
                  clusterSpecifier: { case: "cluster", value: "app" },
                  retryPolicy: {
                    retryOn: on,
                    numRetries: 2,
                    retriableStatusCodes: [503],
                    retryHostPredicate: [{ name: "envoy.retry_host_predicates.previous_hosts" }],
                  },
                },
              },
            },
          ],
        },
      ],
    });

  test("an endpoint that is not there is left for another one", async () => {
    const port = await backend((request, response) => response.end(`try ${request.headers["x-envoy-attempt-count"]}.`));
    const upstream = new TestUpstream("app", [1, port]);
    rig = await startRig({ table: retrying("connect-failure"), clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: "." })).toContain("try 2.");
    expect(upstream.outcomes).toEqual(["connect-failure", "success"]);
  });

  test("a 503 is tried again with its body, until the tries are used up", async () => {
    let tries = 0;
    const port = await backend((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        response.statusCode = ++tries % 3 === 0 && body === "hello" ? 200 : 503;
        response.end(`${body}.`);
      });
    });
    const upstream = new TestUpstream("app", [port]);
    rig = await startRig({ table: retrying("retriable-status-codes"), clusters: [upstream] });
    const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    expect(await talk(rig.port, post, { until: "hello." })).toMatch(/ 200 /);
    expect(tries).toBe(3);
    tries = 10 ** 6;
    while (tries % 3 !== 0) tries++;
    const other = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nother";
    expect(await talk(rig.port, other, { until: "other." })).toMatch(/ 503 /);
    expect(rig.records[1]).toMatchObject({ attempts: 3, flags: ["URX"], responseCode: 503 });
  });

  test("too many requests at once overflow with UO", async () => {
    const port = await backend((_request, response) => void setTimeout(() => response.end("slow"), 100));
    const upstream = new TestUpstream("app", [port]);
    upstream.limits = { ...upstream.limits, maxConnections: 1, maxPendingRequests: 1 };
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const { port: at } = rig;
    const answers = await Promise.all([0, 1, 2].map(() => talk(at, get(), { until: /slow|\n$/ })));
    expect(answers.map((answer) => answer.slice(9, 12)).sort()).toEqual(["200", "200", "503"]);
    expect(rig.records.find(({ responseCode }) => responseCode === 503)?.flags).toEqual(["UO"]);
  });

  test("an answer cut off upstream is cut off downstream, not ended", async () => {
    const port = await rawBackend((socket) =>
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", () => socket.resetAndDestroy());
      }),
    );
    const { rig } = await proxyTo(port);
    const answer = await talk(rig.port, get());
    expect(answer).toContain("content-length: 100");
    expect(answer.endsWith("half") || answer === "").toBe(true);
    expect(rig.records[0]?.flags).toEqual(["UC"]);
  });
});

describe("the life of a connection", () => {
  test("draining finishes what runs and closes after it", async () => {
    const port = await backend((_request, response) => void setTimeout(() => response.end("late"), 50));
    const { rig } = await proxyTo(port);
    const answer = talk(rig.port, get());
    await expect.poll(() => rig.http.metrics.active, { interval: 5 }).toBe(1);
    rig.draining.abort();
    expect(await answer).toMatch(/connection: close\r\n.*late$/s);
  });

  test("a client that goes away ends its request upstream", async () => {
    const port = await backend(() => {});
    const { rig, upstream } = await proxyTo(port);
    const socket = connect(rig.port, "127.0.0.1");
    socket.write(get());
    await expect.poll(() => upstream.open.size).toBe(1);
    socket.resetAndDestroy();
    await expect.poll(() => upstream.open.size).toBe(0);
    expect(rig.records[0]?.flags).toEqual(["DC"]);
    expect(upstream.outcomes).toEqual(["cancelled"]);
  });

  test("endpoints that leave lose their idle connections", async () => {
    const port = await backend((_request, response) => response.end("ok"));
    const { rig, upstream } = await proxyTo(port);
    await talk(rig.port, get(), { until: "ok" });
    expect(upstream.open.size).toBe(1);
    upstream.remove(new Set([`127.0.0.1:${port}`]));
    await expect.poll(() => upstream.open.size).toBe(0);
  });

  test("a large body passes both ways while the slow end holds the fast one back", async () => {
    const size = 96 * 1024 * 1024;
    const port = await backend((request, response) => {
      response.writeHead(200, { "content-length": String(size) });
      request.pipe(response);
    });
    const { rig } = await proxyTo(port);
    const socket = connect(rig.port, "127.0.0.1");
    const chunk = Buffer.alloc(1024 * 1024, "x");
    let sent = 0;
    let got = 0;
    let sentWhilePaused = 0;
    await new Promise<void>((resolve, reject) => {
      socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${size}\r\n\r\n`);
      const pump = () => {
        while (sent < size) {
          sent += chunk.length;
          if (!socket.write(chunk)) return void socket.once("drain", pump);
        }
      };
      pump();
      socket.on("data", (data) => {
        got += data.length;
        if (got >= size) resolve();
      });
      socket.on("error", reject);
      socket.on("close", () => reject(new Error(`closed after ${got}`)));
      socket.pause();
      setTimeout(() => {
        sentWhilePaused = sent;
        socket.resume();
      }, 500);
    });
    socket.destroy();
    // What lies in sockets and small buffers on the way there and back; without being held back it would be all of it.
    expect(sentWhilePaused).toBeGreaterThan(0);
    expect(sentWhilePaused).toBeLessThan(size / 2);
  });
});

describe("a WebSocket", () => {
  test("is upgraded, and messages pass both ways", async () => {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(`echo ${data}`)));
    closers.push(() => {
      for (const client of sockets.clients) client.terminate();
      return new Promise((resolve) => server.close(() => resolve()));
    });
    const { rig } = await proxyTo(await listen(server));
    const client = new WebSocket(`ws://127.0.0.1:${rig.port}/chat`);
    const got = await new Promise<string>((resolve, reject) => {
      client.on("open", () => client.send("hello"));
      client.on("message", (data) => resolve(String(data)));
      client.on("error", reject);
    });
    expect(got).toBe("echo hello");
    const closed = new Promise((resolve) => client.on("close", resolve));
    client.close();
    await closed;
    await expect.poll(() => rig.records[0]).toMatchObject({ responseCode: 101, flags: [] });
  });

  test("that is not allowed is asked for as a plain request", async () => {
    const port = await backend((request, response) => response.end(`upgrade ${request.headers.upgrade}.`));
    const { rig } = await proxyTo(port, { manager: managerOf({ upgradeConfigs: [] }) });
    const answer = await talk(rig.port, get("/", "Connection: upgrade\r\nUpgrade: websocket\r\n"), { until: "." });
    expect(answer).toContain("upgrade undefined.");
  });
});

describe("HTTP/2", () => {
  test("with prior knowledge reaches an HTTP/1.1 server", async () => {
    const port = await backend((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () =>
        response.end(
          `${request.httpVersion} ${request.method} ${request.headers.host} ${request.headers.cookie} ${body}`,
        ),
      );
    });
    const { rig } = await proxyTo(port);
    const session = http2Client(rig.port);
    const answer = await ask(session, { ":method": "POST", cookie: "a=1; b=2" }, "hello");
    expect(answer).toMatchObject({ status: 200, body: "1.1 POST a a=1; b=2 hello" });
    expect(rig.records[0]).toMatchObject({ protocol: "HTTP/2", responseCode: 200 });
  });

  test("is spoken to a cluster that wants it, and shared by requests of HTTP/1.1", async () => {
    const port = await http2Backend((stream, path) => {
      stream.respond({ ":status": 200 });
      stream.end(`[${path}]`);
    });
    const upstream = new TestUpstream("app", [port]);
    upstream.httpProtocol = "http2";
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const requests = Array.from({ length: 20 }, (_, i) => get(`/${i}`)).join("");
    const answer = await talk(rig.port, requests, { until: "[/19]" });
    expect(answer.match(/\[\/\d+\]/g)).toHaveLength(20);
    // More than one, so that a gateway that balances connections can spread them; not one a request.
    expect(upstream.connects).toBeLessThanOrEqual(4);
  });

  test("gRPC streams both ways, and its trailers arrive", async () => {
    const port = await http2Backend((stream, _path, headers) => {
      stream.respond(
        { ":status": 200, "content-type": "application/grpc", te: String(headers["te"]) },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "grpc-message": "fine" }));
      // Each message is answered at once: a proxy that waited for the end would stand still here.
      stream.on("data", (chunk: Buffer) => stream.write(`<${chunk}>`));
      stream.on("end", () => stream.end());
    });
    const upstream = new TestUpstream("app", [port]);
    upstream.httpProtocol = "http2";
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const stream = http2Client(rig.port).request({
      ":method": "POST",
      ":path": "/s/M",
      ":authority": "a",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const got: string[] = [];
    const trailers = await new Promise((resolve, reject) => {
      stream.on("error", reject);
      stream.on("trailers", resolve);
      stream.on("data", (chunk: Buffer) => {
        got.push(String(chunk));
        if (got.length < 5) stream.write(`m${got.length}`);
        else stream.end();
      });
      stream.write("m0");
    });
    expect(got).toEqual(["<m0>", "<m1>", "<m2>", "<m3>", "<m4>"]);
    expect(trailers).toMatchObject({ "grpc-status": "0", "grpc-message": "fine" });
  });

  test("trailers of HTTP/1.1 become those of HTTP/2", async () => {
    const port = await rawBackend((socket) =>
      socket.once("data", () =>
        socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"),
      ),
    );
    const { rig } = await proxyTo(port);
    expect(await ask(http2Client(rig.port), {})).toMatchObject({ status: 200, body: "ok", trailers: { "x-sum": "7" } });
  });

  test("a failure of a gRPC call is told in its own words", async () => {
    const { rig } = await proxyTo(1);
    const answer = await ask(http2Client(rig.port), { ":method": "POST", "content-type": "application/grpc" }, "x");
    expect(answer.status).toBe(200);
    expect(answer.headers["grpc-status"]).toBe("14");
    expect(decodeURIComponent(String(answer.headers["grpc-message"]))).toContain('cluster "app"');
  });

  test("a server that refuses a stream is seen as a reset, and the client gets a 503", async () => {
    const port = await http2Backend((stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM));
    const upstream = new TestUpstream("app", [port]);
    upstream.httpProtocol = "http2";
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: /\n$/ })).toMatch(/ 503 /);
    expect(rig.records[0]?.flags).toEqual(["UR"]);
  });

  test("a body that is not as long as its server said is cut off, so that nobody takes it for whole", async () => {
    const port = await http2Backend((stream, path) => {
      stream.respond({ ":status": 200, "content-length": "10" });
      stream.end(path === "/short" ? "123456789" : "12345678901");
    });
    const upstream = new TestUpstream("app", [port]);
    upstream.httpProtocol = "http2";
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    for (const path of ["/short", "/long"]) {
      const got = await talk(rig.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
      expect((got.split("\r\n\r\n")[1] ?? "").length, path).toBeLessThan(10);
    }
    expect(rig.records.map(({ flags }) => flags)).toEqual([["UC"], ["UC"]]);
    expect(rig.records[1]?.upstreamFailure).toContain("more of a body than content-length told");
  });

  test("a client that resets without end is told to calm down, and the server behind is spared", async () => {
    let reached = 0;
    const port = await backend(() => {
      reached++;
    });
    const upstream = new TestUpstream("app", [port]);
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const session = http2Client(rig.port);
    const goaway = new Promise<number>((resolve) => session.on("goaway", resolve));
    const closed = new Promise((resolve) => session.on("close", resolve));
    let made = 0;
    while (!session.closed && !session.destroyed && made < 5000) {
      for (let i = 0; i < 50; i++, made++) {
        if (session.closed || session.destroyed) break;
        const stream = session.request({ ":path": "/", ":authority": "a" });
        stream.on("error", () => {});
        stream.close(constants.NGHTTP2_CANCEL);
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await closed;
    expect(await goaway).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(made).toBeLessThan(2000);
    expect(reached).toBeLessThan(400);
  });

  test("draining says GOAWAY, and what runs is finished", async () => {
    const port = await backend((_request, response) => void setTimeout(() => response.end("late"), 50));
    const { rig } = await proxyTo(port);
    const session = http2Client(rig.port);
    const answer = ask(session, {});
    const goaway = new Promise((resolve) => session.on("goaway", resolve));
    await expect.poll(() => rig.http.metrics.active, { interval: 5 }).toBe(1);
    rig.draining.abort();
    await goaway;
    expect(await answer).toMatchObject({ status: 200, body: "late" });
  });

  test("a field that HTTP/2 has once and HTTP/1.1 sent twice does no harm, whichever it is", async () => {
    const names = Object.entries(constants)
      .filter(([key, value]) => key.startsWith("HTTP2_HEADER_") && typeof value === "string" && !value.startsWith(":"))
      .map(([, value]) => String(value))
      .filter((name) => !["content-length", "transfer-encoding", "connection", "upgrade", "host"].includes(name));
    let name = "";
    const port = await rawBackend((socket) =>
      socket.on("data", () =>
        socket.write(`HTTP/1.1 200 OK\r\n${name}: a\r\n${name}: b\r\ncontent-length: 2\r\n\r\nok`),
      ),
    );
    const { rig } = await proxyTo(port);
    const session = http2Client(rig.port);
    expect(names.length).toBeGreaterThan(50);
    for (name of names) expect(await ask(session, {}), name).toMatchObject({ status: 200, body: "ok" });
  });

  const hello = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0)]);
  // An HPACK literal without indexing: name and value of these lengths.
  const headersOf = Buffer.concat([Buffer.from([0x82, 0x86, 0x84, 0x41, 1]), Buffer.from("a")]);

  test("draining serves what was on its way, until the client has seen that no more is wanted", async () => {
    const port = await backend((_request, response) => response.end("ok"));
    const { rig } = await proxyTo(port);
    const socket = connect(rig.port, "127.0.0.1");
    let got = Buffer.alloc(0);
    let closed = false;
    socket.on("data", (bytes: Buffer) => {
      got = Buffer.concat([got, bytes]);
    });
    socket.on("close", () => {
      closed = true;
    });
    const goawayOf = (last: number) => frame(7, 0, 0, Buffer.from([0, 0, 0, 0, 0, 0, 0, 0])).fill(last, 12, 13);
    socket.write(Buffer.concat([hello, frame(1, 5, 1, headersOf)]));
    await expect.poll(() => got.includes("ok")).toBe(true);
    rig.draining.abort();
    const anyStream = Buffer.concat([
      frame(7, 0, 0, Buffer.alloc(8)).subarray(0, 9),
      Buffer.from("7fffffff00000000", "hex"),
    ]);
    await expect.poll(() => got.includes(anyStream)).toBe(true);
    got = Buffer.alloc(0);
    // Sent before its sender knew: answered all the same. Then it has seen the ping, and all that was before it.
    socket.write(frame(1, 5, 3, headersOf));
    await expect.poll(() => got.includes("ok")).toBe(true);
    expect(closed).toBe(false);
    socket.write(frame(6, 1, 0, Buffer.alloc(8)));
    await expect.poll(() => closed).toBe(true);
    expect(got.includes(goawayOf(3))).toBe(true);
  });

  test("large bodies keep their bytes, both ways and through both codecs, however slowly they are read", async () => {
    // No two pieces of it are alike, so that bytes of another read would show.
    const body = Buffer.alloc(3_000_000);
    for (let at = 0; at + 4 <= body.length; at += 4) body.writeUInt32LE(at, at);
    const slowly = async (stream: Readable): Promise<Buffer> => {
      const pieces: Buffer[] = [];
      // Nothing is read at first, so that the windows close.
      await new Promise((resolve) => setTimeout(resolve, 30));
      for await (const piece of stream) {
        pieces.push(piece as Buffer);
        if (pieces.length % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      }
      return Buffer.concat(pieces);
    };
    const http1 = await backend((request, response) => void slowly(request).then((got) => response.end(got)));
    const http2 = await http2Backend((stream) => {
      void slowly(stream).then((got) => {
        stream.respond({ ":status": 200 });
        stream.end(got);
      });
    });
    const behind = new TestUpstream("app", [http1]);
    rig = await startRig({ table: everythingTo("app"), clusters: [behind] });
    const session = http2Client(rig.port);
    for (const [port, protocol] of [
      [http1, "http1"],
      [http2, "http2"],
    ] as const) {
      const upstream = new TestUpstream("app", [port]);
      upstream.httpProtocol = protocol;
      rig.clusters.set("app", upstream);
      const streams = [1, 2, 3].map(() => session.request({ ":method": "POST", ":authority": "a", ":path": "/" }));
      for (const stream of streams) stream.end(body);
      for (const got of await Promise.all(streams.map(slowly))) expect(got.equals(body), protocol).toBe(true);
    }
  });

  test("a server that goes away before it began on a request is told as one, and another connection is made", async () => {
    let connections = 0;
    const port = await rawBackend((socket) => {
      connections++;
      const first = connections === 1;
      let asked = 0;
      socket.on("data", () => {
        // Its settings for the client's, then its answer, or none, for the request.
        if (++asked === 1) socket.write(frame(4, 0, 0));
        else if (asked === 2) socket.write(first ? frame(7, 0, 0, Buffer.alloc(8)) : frame(1, 5, 1, Buffer.of(0x88)));
      });
    });
    const upstream = new TestUpstream("app", [port]);
    upstream.httpProtocol = "http2";
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    expect(await talk(rig.port, get(), { until: /\n$/ })).toMatch(/ 503 /);
    expect(rig.records[0]?.upstreamFailure).toContain("did not begin");
    expect(await talk(rig.port, get(), { until: "\r\n\r\n" })).toMatch(/ 200 /);
    expect(connections).toBe(2);
  });

  test("a request that is under way when its client breaks the protocol is told as the client's fault", async () => {
    const port = await backend((_request, response) => void setTimeout(() => response.end("late"), 500));
    const { rig } = await proxyTo(port);
    const socket = connect(rig.port, "127.0.0.1");
    let got = "";
    socket.on("data", (bytes: Buffer) => {
      got += bytes.toString("latin1");
    });
    socket.write(Buffer.concat([hello, frame(1, 5, 1, headersOf)]));
    await expect.poll(() => rig.http.metrics.active, { interval: 5 }).toBe(1);
    socket.write(frame(6, 0, 0, [1]));
    await expect.poll(() => got).toContain("PING with 1 bytes in place of 8");
    await expect.poll(() => rig.records).toMatchObject([{ flags: ["DPE"], details: "http2.protocol_error" }]);
    socket.destroy();
  });

  test("more streams than are allowed at once are refused, and a client may try them again", async () => {
    const port = await backend((_request, response) => void setTimeout(() => response.end("ok"), 100));
    const { rig } = await proxyTo(port, { manager: managerOf({ http2ProtocolOptions: { maxConcurrentStreams: 3 } }) });
    const socket = connect(rig.port, "127.0.0.1");
    let got = Buffer.alloc(0);
    socket.on("data", (bytes: Buffer) => {
      got = Buffer.concat([got, bytes]);
    });
    socket.write(Buffer.concat([hello, ...[1, 3, 5, 7, 9].map((id) => frame(1, 5, id, headersOf))]));
    const refused = (id: number) => got.includes(frame(3, 0, id, Buffer.from([0, 0, 0, 7])));
    await expect.poll(() => refused(7) && refused(9)).toBe(true);
    expect([1, 3, 5].some(refused)).toBe(false);
    await expect.poll(() => got.toString("latin1").split("ok").length - 1).toBe(3);
    socket.destroy();
  });

  const floods: ReadonlyArray<readonly [it: string, once: Buffer, again: Buffer]> = [
    ["PING", Buffer.alloc(0), frame(6, 0, 0, Buffer.alloc(8))],
    ["SETTINGS", Buffer.alloc(0), frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100]))],
    [
      "CONTINUATION",
      frame(1, 0, 1, headersOf),
      frame(9, 0, 1, Buffer.concat([Buffer.from([0, 1, 120, 100]), Buffer.alloc(100, 97)])),
    ],
    ["empty CONTINUATION", frame(1, 0, 1, headersOf), frame(9, 0, 1)],
  ];
  for (const [it, once, again] of floods) {
    test(`a flood of ${it} frames ends the connection, and others are served on`, async () => {
      const port = await backend((_request, response) => response.end("ok"));
      const { rig } = await proxyTo(port);
      const before = process.memoryUsage().rss;
      const socket = connect(rig.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.resume();
      const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
      let ended = false;
      void closed.then(() => {
        ended = true;
      });
      socket.write(hello);
      socket.write(once);
      const many = Buffer.concat(Array.from({ length: 200 }, () => again));
      for (let sent = 0; sent < 100_000 && !ended; sent += 200) {
        if (!socket.write(many)) await Promise.race([closed, new Promise((resolve) => socket.once("drain", resolve))]);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.race([closed, new Promise((_, reject) => setTimeout(() => reject(new Error("still open")), 3000))]);
      expect((process.memoryUsage().rss - before) / 1024 / 1024).toBeLessThan(60);
      expect(await talk(rig.port, get(), { until: "ok" })).toMatch(/ 200 /);
    });
  }
});

describe("the explicit proxy", () => {
  const explicit = { routeName: (_authority: string, port: number) => (port === 8000 ? "test" : undefined) };

  test("takes whole URLs, and the port of the URL chooses the route table", async () => {
    const port = await backend((request, response) => response.end(`${request.url} ${request.headers.host}.`));
    const { rig } = await proxyTo(port, { service: { explicit } });
    const url = (host: string) =>
      `GET http://${host}/x?y HTTP/1.1\r\nHost: ${host}\r\nProxy-Connection: keep-alive\r\n\r\n`;
    expect(await talk(rig.port, url("shop.global:8000"), { until: "." })).toContain("/x?y shop.global:8000.");
    expect(await talk(rig.port, url("shop.global:9"), { until: /\n$/ })).toMatch(
      /^HTTP\/1\.1 502 .*no service of the mesh listens on port 9/s,
    );
    expect(await talk(rig.port, get("/x"), { until: /\n$/ })).toMatch(/^HTTP\/1\.1 400 .*whole URL/s);
  });

  test("asks where a host is for a cluster that goes where the caller meant to", async () => {
    const port = await backend((_request, response) => response.end("there"));
    const upstream = new TestUpstream("app", [port]);
    const pick = upstream.pick;
    upstream.pick = (context) =>
      context.destination ? pick(context) : { kind: "none", flag: "UH", reason: "it has no destination" };
    const asked: string[] = [];
    const destinationOf = async (host: string, given: number) => {
      asked.push(`${host} ${given}`);
      return { ip: "127.0.0.1" as never, port };
    };
    rig = await startRig({
      table: everythingTo("app"),
      clusters: [upstream],
      service: { explicit: { ...explicit, destinationOf } },
    });
    const bytes = "GET http://Shop.Global:8000/ HTTP/1.1\r\nHost: shop.global:8000\r\n\r\n";
    expect(await talk(rig.port, bytes, { until: "there" })).toMatch(/ 200 /);
    expect(asked).toEqual(["shop.global 8000"]);
    expect(rig.records[0]?.attempts).toBe(1);
  });
});

describe("a route that does more", () => {
  const table = (value: object, more: object = {}) =>
    tableOf({
      name: "test",
      virtualHosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            {
              match: { pathSpecifier: { case: "prefix", value: "/api" } },
              ...more,
              action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "app" }, ...value } },
            },
          ],
        },
      ],
    });

  test("rewrites path and host, and changes fields both ways", async () => {
    const port = await backend((request, response) =>
      response.end(`${request.url} ${request.headers.host} ${request.headers["x-a"]}.`),
    );
    const { rig } = await proxyTo(port, {
      table: table(
        { prefixRewrite: "/v2", hostRewriteSpecifier: { case: "hostRewriteLiteral", value: "other" } },
        {
          requestHeadersToAdd: [{ header: { key: "X-A", value: "%REQ(:METHOD)%" } }],
          responseHeadersToAdd: [{ header: { key: "x-b", value: "1" } }],
          responseHeadersToRemove: ["date"],
        },
      ),
    });
    const answer = await talk(rig.port, get("/api/x"), { until: /\.$/ });
    expect(answer).toContain("/v2/x other GET.");
    expect(answer).toContain("x-b: 1\r\n");
    expect(answer).not.toContain("date:");
  });

  test("gives up when the time of the route is over", async () => {
    const port = await backend(() => {});
    const { rig, upstream } = await proxyTo(port, { table: table({ timeout: { seconds: 0n, nanos: 50_000_000 } }) });
    const answer = await talk(rig.port, get("/api"), { until: /\n$/ });
    expect(answer).toMatch(/^HTTP\/1\.1 504 /);
    expect(rig.records[0]?.flags).toEqual(["UT"]);
    await expect.poll(() => upstream.open.size).toBe(0);
  });

  test("mirrors a request with its body, and answers from the first cluster alone", async () => {
    let shadow = "";
    const other = await backend((request, response) => {
      request.on("data", (chunk) => {
        shadow += chunk;
      });
      request.on("end", () => response.end(String(request.headers.host)));
      shadow += `${request.headers.host} `;
    });
    const port = await backend((request, response) => {
      request.resume();
      request.on("end", () => response.end("first"));
    });
    const clusters = [new TestUpstream("app", [port]), new TestUpstream("other", [other])];
    rig = await startRig({ table: table({ requestMirrorPolicies: [{ cluster: "other" }] }), clusters });
    const post = "POST /api HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello";
    expect(await talk(rig.port, post, { until: "first" })).toMatch(/ 200 /);
    await expect.poll(() => shadow).toBe("a-shadow:80 hello");
  });
});
