import { createServer, type RequestListener, type Server } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { everythingTo, type Rig, startRig, TestUpstream, talk } from "./testing/rig.ts";

let rig: Rig | undefined;
let servers: Server[] = [];

async function backend(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

afterEach(async () => {
  await rig?.close();
  expect(rig?.sockets.size ?? 0).toBe(0);
  rig = undefined;
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  servers = [];
});

describe("a request through the proxy", () => {
  test("reaches the cluster of its route and the answer comes back", async () => {
    const port = await backend((request, response) => {
      response.setHeader("x-saw", `${request.method} ${request.url} ${request.headers.host}`);
      response.end("hello");
    });
    const upstream = new TestUpstream("app", [port]);
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const answer = await talk(rig.port, "GET /a/../b?q=%2e HTTP/1.1\r\nHost: Example.org\r\n\r\n", { until: "hello" });
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toContain("x-saw: GET /b?q=%2e Example.org\r\n");
    expect(answer).toContain("server: isthmus\r\n");
    expect(rig.records).toMatchObject([
      { responseCode: 200, method: "GET", details: "via_upstream", flags: [], upstreamCluster: "app", bytesSent: 5 },
    ]);
    expect(upstream.outcomes).toEqual(["success"]);
  });

  test("many on one connection, sent ahead, are answered in order over one upstream connection", async () => {
    const port = await backend((request, response) => response.end(`[${request.url}]`));
    const upstream = new TestUpstream("app", [port]);
    rig = await startRig({ table: everythingTo("app"), clusters: [upstream] });
    const requests = Array.from({ length: 50 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join("");
    const answer = await talk(rig.port, requests, { until: "[/49]" });
    expect(answer.match(/\[\/\d+\]/g)).toEqual(Array.from({ length: 50 }, (_, i) => `[/${i}]`));
    expect(upstream.connects).toBe(1);
  });
});
