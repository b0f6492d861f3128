import { readFileSync } from "node:fs";
import { request } from "node:http";
import { expect, test } from "vitest";
import { scratchDir } from "../testing/index.ts";
import type { SocketAddress } from "../values/index.ts";
import { TestRoot } from "./testdata/certificates.ts";
import {
  clientTls,
  edsCluster,
  endpoints,
  fileLog,
  httpManager,
  inspectors,
  listener,
  routes,
  serverTls,
  staticCluster,
  tcpProxy,
} from "./testdata/resources.ts";
import { dial, echo, readAll, readBytes, scene, server } from "./testdata/scene.ts";

const get = (at: SocketAddress, path = "/", headers: Record<string, string> = {}) =>
  new Promise<{ status: number; body: string }>((resolve, reject) => {
    const sent = request({ host: at.ip, port: at.port, path, headers, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("error", reject).end();
  });

const httpServer = (body: (head: string) => string) =>
  server((socket) => {
    let head = "";
    socket.on("data", (chunk: Buffer) => {
      head += chunk.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      const text = body(head);
      head = "";
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    });
    socket.on("end", () => socket.end());
  });

test("a TCP listener passes bytes both ways and each end on its own", async () => {
  const target = await echo();
  const { at } = await scene({
    clusters: [staticCluster("echo", [target])],
    listeners: [listener("tcp", { filterChains: [{ filters: [tcpProxy("echo")] }] })],
  });
  const socket = await dial(at("tcp"));
  socket.end("hello");
  expect(await readAll(socket)).toEqual({ text: "hello", error: undefined });
});

test("a call goes through two proxies over mutual TLS, and the server's proxy tells who called", async () => {
  const root = await TestRoot.make();
  const target = await httpServer((head) => /^x-forwarded-client-cert: (.*)$/im.exec(head)?.[1] ?? "nobody");
  const serving = await scene(
    {
      clusters: [staticCluster("app", [target])],
      routes: [routes("in", "app")],
      listeners: [
        listener("in", {
          listenerFilters: inspectors("tls_inspector"),
          filterChains: [
            {
              filterChainMatch: { applicationProtocols: ["istio", "istio-http/1.1"] },
              transportSocket: serverTls({ alpn: ["h2", "http/1.1"] }),
              filters: [httpManager("in")],
            },
          ],
        }),
      ],
    },
    { secrets: { default: await root.workload("bar", "httpbin"), ROOTCA: root.trust } },
  );
  const calling = await scene(
    {
      clusters: [
        edsCluster("out", {
          transportSocket: clientTls({
            sni: "outbound_.8000_._.httpbin.bar.global",
            alpn: ["istio-http/1.1", "istio"],
            expect: ["spiffe://cluster.local/ns/bar/"],
          }),
        }),
      ],
      endpoints: [endpoints("out", [serving.at("in")])],
      routes: [routes("8000", "out")],
      listeners: [listener("out", { filterChains: [{ filters: [httpManager("8000")] }] })],
    },
    { secrets: { default: await root.workload("foo", "sleep"), ROOTCA: root.trust } },
  );
  const reply = await get(calling.at("out"), "/headers");
  expect(reply.status).toBe(200);
  expect(reply.body).toContain("By=spiffe://cluster.local/ns/bar/sa/httpbin");
  expect(reply.body).toContain("URI=spiffe://cluster.local/ns/foo/sa/sleep");
});
