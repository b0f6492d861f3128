import { connect as connectHttp2, createServer as createHttp2Server, performServerHandshake } from "node:http2";
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { expect, test } from "vitest";
import type { Ip } from "../../values/index.ts";
import { TestRoot } from "../testdata/certificates.ts";
import { serveHttp } from "./serve-http.ts";
import { everythingTo, managerOf, startRig, TestUpstream } from "./testing/rig.ts";

test("HTTP/2 inside TLS on both sides, under the mesh's own protocol names, carries a request and its body", async () => {
  const root = await TestRoot.make();
  const { chain, key } = await root.issue([{ type: "dns", value: "localhost" }]);
  const files = { cert: chain, key };
  const sockets = new Set<TLSSocket>();
  const track = (socket: TLSSocket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  };

  // The server behind: h2 under the name istio-h2, so Node's own choice by ALPN does not help.
  const http2 = createHttp2Server();
  http2.on("stream", (stream, headers) => {
    let body = "";
    stream.on("data", (chunk) => {
      body += chunk;
    });
    stream.on("end", () => {
      stream.respond({ ":status": 200 });
      stream.end(`${headers[":path"]} ${body}`);
    });
  });
  const behind = createTlsServer({ ...files, ALPNProtocols: ["istio-h2"] }, (socket) => {
    track(socket);
    performServerHandshake(socket).on("stream", (...given) => http2.emit("stream", ...given));
  });
  await new Promise<void>((resolve) => behind.listen(0, "127.0.0.1", resolve));
  const port = (behind.address() as { port: number }).port;

  const upstream = new TestUpstream("app", [port]);
  upstream.httpProtocol = "http2";
  upstream.connect = (endpoint) =>
    new Promise((resolve, reject) => {
      const socket = connectTls({
        host: "127.0.0.1",
        port,
        ALPNProtocols: ["istio-h2"],
        rejectUnauthorized: false,
        allowHalfOpen: true,
      } as never);
      track(socket);
      socket.once("error", reject);
      socket.once("secureConnect", () =>
        resolve({
          socket,
          endpoint,
          local: { ip: "127.0.0.1" as Ip, port: 0 },
          tls: { sni: undefined, alpn: "istio-h2", version: "TLSv1.3", peer: undefined, localUris: [] },
        }),
      );
    });
  const rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
  const ending = new AbortController();
  const front = createTlsServer({ ...files, ALPNProtocols: ["istio-h2"], allowHalfOpen: true }, (socket) => {
    track(socket);
    void serveHttp(
      {
        id: 1,
        socket,
        remote: { ip: "127.0.0.1" as Ip, port: 1 },
        destination: { ip: "127.0.0.1" as Ip, port: 2 },
        listener: "tls",
        tls: {
          sni: undefined,
          alpn: socket.alpnProtocol || undefined,
          version: "TLSv1.3",
          peer: undefined,
          localUris: [],
        },
        sni: undefined,
        startedMs: 0,
        draining: new AbortController().signal,
        signal: ending.signal,
      },
      { http: rig.http, manager: managerOf(), routes: () => rig.table, accessLog: undefined },
    );
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  const at = (front.address() as { port: number }).port;
  const client = connectTls({ host: "127.0.0.1", port: at, ALPNProtocols: ["istio-h2"], rejectUnauthorized: false });
  const session = connectHttp2("http://a", { createConnection: () => client });
  const body = "x".repeat(300_000);
  const got = await new Promise<string>((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": "/x", ":authority": "a" });
    let text = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("end", () => resolve(text));
    stream.on("error", reject);
    stream.end(body);
  });
  expect(got).toBe(`/x ${body}`);
  session.destroy();
  ending.abort();
  await rig.close();
  for (const socket of sockets) socket.destroy();
  await Promise.all([front, behind].map((server) => new Promise((resolve) => server.close(resolve))));
});
