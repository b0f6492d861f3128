import { createServer, type IncomingMessage } from "node:http";
import { createServer as createHttp2, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, createServer as createTcp, type Server } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { testAuthority } from "../../testing/index.ts";
import type { Ip } from "../../values/index.ts";
import { appPlaces, askApp } from "./ask-app.ts";

const places = [{ host: "127.0.0.1" }];

async function listening(server: Server, host = "127.0.0.1"): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

const http = { by: "http", path: "/ready", secure: false, headers: [], timeoutMs: 5_000 } as const;

describe("by HTTP", () => {
  test("the path and the headers are those of the probe, the status that of the application", async () => {
    const asked: IncomingMessage[] = [];
    const port = await listening(
      createServer((request, response) => {
        asked.push(request);
        response.writeHead(Number(request.headers["x-status"])).end("said");
      }),
    );
    for (const status of [200, 204, 302, 404, 503]) {
      const headers = [
        ["X-Status", String(status)],
        ["Host", "web.example"],
      ] as const;
      expect(await askApp({ ...http, path: "/ready?a=b%20c", port, headers }, places)).toMatchObject({ status });
    }
    expect(asked).toHaveLength(5);
    expect(asked[0]).toMatchObject({ url: "/ready?a=b%20c", method: "GET", headers: { host: "web.example" } });
    expect(asked[0]?.headers["user-agent"]).toMatch(/^kube-probe\//);
  });

  test("a certificate is not looked at", async () => {
    const { certChainPem, privateKeyPem } = await (await testAuthority()).issue({ dns: ["other"] });
    const port = await listening(
      createHttps({ cert: certChainPem, key: privateKeyPem }, (_request, response) => response.end("ok")),
    );
    expect(await askApp({ ...http, port, secure: true }, places)).toMatchObject({ status: 200, text: "ok" });
  });

  test("who does not answer in time, or hangs up, is not well", async () => {
    const silent = await listening(createTcp(() => {}));
    expect(await askApp({ ...http, port: silent, timeoutMs: 50 }, places)).toMatchObject({
      status: 503,
      text: expect.stringContaining("50 ms"),
    });
    const rude = await listening(createTcp((socket) => socket.destroy()));
    expect(await askApp({ ...http, port: rude }, places)).toMatchObject({ status: 503 });
    const endless = await listening(
      createServer((_request, response) => {
        response.writeHead(200);
        // By turns: a newer Node calls back at once for who has gone, and nobody else would have one.
        const write = () => {
          if (!response.destroyed) response.write("x".repeat(65536), () => setImmediate(write));
        };
        write();
      }),
    );
    expect(await askApp({ ...http, port: endless, timeoutMs: 200 }, places)).toMatchObject({ status: 503 });
  });
});

describe("where", () => {
  test("an application on loopback alone is found there after the pod's own address", async () => {
    const port = await listening(createServer((_request, response) => response.end("ok")));
    expect(await askApp({ ...http, port }, [{ host: "127.0.0.2" }, ...places])).toMatchObject({ status: 200 });
  });
  test("where nobody listens anywhere, that is said", async () => {
    const server = createTcp();
    const port = await listening(server);
    await new Promise<void>((resolve) => void server.close(() => resolve()));
    expect(await askApp({ ...http, port }, places)).toMatchObject({
      status: 503,
      text: expect.stringContaining("ECONNREFUSED"),
    });
  });
  test("captured, it comes from the address that the rules let by", async () => {
    expect(appPlaces("10.1.2.3" as Ip, true)).toEqual([{ host: "10.1.2.3", from: "127.0.0.6" }, { host: "127.0.0.1" }]);
    expect(appPlaces("10.1.2.3" as Ip, false)).toEqual([{ host: "10.1.2.3" }, { host: "127.0.0.1" }]);
    expect(appPlaces("fd00::1" as Ip, true)).toEqual([{ host: "::1" }]);
    let from: string | undefined;
    const port = await listening(
      createServer((request, response) => {
        from = request.socket.remoteAddress;
        response.end();
      }),
    );
    expect(await askApp({ ...http, port }, [{ host: "127.0.0.1", from: "127.0.0.6" }])).toMatchObject({ status: 200 });
    expect(from).toBe("127.0.0.6");
  });
});

test("by TCP, who takes the connection is well", async () => {
  const port = await listening(createTcp(() => {}));
  expect(await askApp({ by: "tcp", port, timeoutMs: 1000 }, places)).toMatchObject({ status: 200 });
});

describe("by gRPC", () => {
  /** Answers as a health service does, for the services that it knows. */
  async function health(serving: ReadonlyMap<string, number>) {
    const server = createHttp2();
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      const parts: Buffer[] = [];
      stream.on("data", (part: Buffer) => parts.push(part));
      stream.on("end", () => {
        const message = Buffer.concat(parts).subarray(5);
        const service = message.length === 0 ? "" : message.subarray(2).toString();
        const status = serving.get(service);
        const known = headers[":path"] === "/grpc.health.v1.Health/Check" && status !== undefined;
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": known ? "0" : "5" }));
        stream.end(known ? Buffer.from([0, 0, 0, 0, 2, 8, status]) : undefined);
      });
    });
    return await listening(server as unknown as Server);
  }
  for (const [service, status] of [
    ["", 200],
    ["good", 200],
    ["ill", 503],
    ["unknown", 503],
  ] as const) {
    test(`service "${service}": ${status}`, async () => {
      const port = await health(new Map(Object.entries({ "": 1, good: 1, ill: 2 })));
      expect(await askApp({ by: "grpc", port, service, timeoutMs: 5_000 }, places)).toMatchObject({ status });
    });
  }
  test("who speaks something else is not well", async () => {
    const port = await listening(createTcp((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")));
    expect(await askApp({ by: "grpc", port, service: "", timeoutMs: 5_000 }, places)).toMatchObject({ status: 503 });
  });
});
