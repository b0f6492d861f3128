import { Agent, request } from "node:http";
import { expect, test } from "vitest";
import type { Secret } from "./config/secret.ts";
import { TestRoot } from "./testdata/certificates.ts";
import {
  clientTls,
  httpManager,
  inspectors,
  listener,
  routes,
  serverTls,
  staticCluster,
  tcpProxy,
} from "./testdata/resources.ts";
import { dial, echo, readAll, readBytes, scene, server } from "./testdata/scene.ts";

const answering = () =>
  server((socket) => {
    socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    socket.on("end", () => socket.end());
  });

/** Two proxies with mutual TLS between them. */
async function pair(root: TestRoot) {
  const target = await answering();
  const app = await echo();
  const serving = await scene(
    {
      clusters: [staticCluster("app", [target]), staticCluster("echo", [app])],
      routes: [routes("in", "app")],
      listeners: [
        listener("in", {
          listenerFilters: inspectors("tls_inspector"),
          filterChains: [
            {
              filterChainMatch: { applicationProtocols: ["istio-http/1.1"] },
              transportSocket: serverTls({ alpn: ["h2", "http/1.1"] }),
              filters: [httpManager("in")],
            },
            {
              filterChainMatch: { applicationProtocols: ["istio"] },
              transportSocket: serverTls(),
              filters: [tcpProxy("echo")],
            },
          ],
        }),
      ],
    },
    { secrets: { default: await root.workload("bar", "httpbin"), ROOTCA: root.trust } },
  );
  const tls = (alpn: readonly string[]) => ({
    transportSocket: clientTls({ sni: "s", alpn, expect: ["spiffe://cluster.local/ns/bar/"] }),
  });
  const calling = await scene(
    {
      clusters: [
        staticCluster("http", [serving.at("in")], tls(["istio-http/1.1", "istio"])),
        staticCluster("tcp", [serving.at("in")], tls(["istio"])),
      ],
      routes: [routes("out", "http")],
      listeners: [
        listener("http", { filterChains: [{ filters: [httpManager("out")] }] }),
        listener("tcp", { filterChains: [{ filters: [tcpProxy("tcp")] }] }),
      ],
    },
    { secrets: { default: await root.workload("foo", "sleep"), ROOTCA: root.trust } },
  );
  return { serving, calling };
}

test("certificates rotate under load, listeners change, and no request fails; an open connection is kept", async () => {
  const root = await TestRoot.make();
  const { serving, calling } = await pair(root);
  const long = await dial(calling.at("tcp"));
  long.write("before");
  expect((await readBytes(long, 6)).toString()).toBe("before");
  const { ip, port } = calling.at("http");
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const results: Record<string, number> = {};
  let running = true;
  const worker = async () => {
    while (running)
      await new Promise<void>((resolve) => {
        const count = (what: string) => {
          results[what] = (results[what] ?? 0) + 1;
          resolve();
        };
        request({ host: ip, port, agent }, (response) => {
          response.resume().on("end", () => count(String(response.statusCode)));
        })
          .on("error", (error) => count(error.message))
          .end();
      });
  };
  const workers = Array.from({ length: 8 }, worker);
  for (let round = 0; round < 10; round++) {
    serving.secrets.set(
      new Map([
        ["default", await root.workload("bar", "httpbin")],
        ["ROOTCA", root.trust],
      ]),
    );
    calling.secrets.set(
      new Map([
        ["default", await root.workload("foo", "sleep")],
        ["ROOTCA", root.trust],
      ]),
    );
    await calling.change({
      routes: [routes("out", "http")],
      listeners: [listener("http", { filterChains: [{ filters: [httpManager("out")] }], trafficDirection: round % 2 })],
    });
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  running = false;
  await Promise.all(workers);
  agent.destroy();
  expect(Object.keys(results)).toEqual(["200"]);
  expect(results["200"]).toBeGreaterThan(100);
  long.write("after");
  expect((await readBytes(long, 5)).toString()).toBe("after");
  long.end();
});

const refusals: ReadonlyArray<{
  readonly it: string;
  readonly server: (root: TestRoot, other: TestRoot) => Promise<Record<string, Secret>>;
  readonly says: RegExp;
}> = [
  {
    it: "a server of another root",
    server: async (_root, other) => ({ default: await other.workload("bar", "httpbin"), ROOTCA: other.trust }),
    says: /signed by a root that is not trusted here/,
  },
  {
    it: "the right root and the wrong namespace",
    server: async (root) => ({ default: await root.workload("evil", "httpbin"), ROOTCA: root.trust }),
    says: /the server is "spiffe:\/\/cluster.local\/ns\/evil\/sa\/httpbin"; it must be starting with "spiffe:\/\/cluster.local\/ns\/bar\/"/,
  },
  {
    it: "a server whose certificate has expired",
    server: async (root) => ({
      default: await root.workload("bar", "httpbin", { notAfterMs: Date.now() - 60_000 }),
      ROOTCA: root.trust,
    }),
    says: /has expired/,
  },
  {
    it: "a server whose certificate is of tomorrow",
    server: async (root) => ({
      default: await root.workload("bar", "httpbin", { notBeforeMs: Date.now() + 3_600_000 }),
      ROOTCA: root.trust,
    }),
    says: /is not valid yet/,
  },
  {
    it: "a DNS name that looks like the wanted identity",
    server: async (root) => ({
      default: await root.issue([
        { type: "url", value: "spiffe://cluster.local/ns/evil/sa/x" },
        { type: "dns", value: "spiffe.cluster.local.ns.bar" },
      ]),
      ROOTCA: root.trust,
    }),
    says: /the server is "spiffe:\/\/cluster.local\/ns\/evil\/sa\/x", "spiffe.cluster.local.ns.bar"; it must be/,
  },
];
for (const { it, server: serverSecrets, says } of refusals)
  test(`${it}: refused, and the failure names the cause`, async () => {
    const [root, other] = [await TestRoot.make(), await TestRoot.make("other")];
    const { serving, calling } = await pair(root);
    serving.secrets.set(new Map(Object.entries(await serverSecrets(root, other))));
    const { ip, port } = calling.at("http");
    const reply = await new Promise<{ status: number; body: string }>((resolve, reject) => {
      request({ host: ip, port, agent: false }, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      })
        .on("error", reject)
        .end();
    });
    expect(reply.status).toBe(503);
    expect(reply.body).toMatch(says);
  });

test("a client of another root, one without certificate and plaintext do not reach the application", async () => {
  const [root, other] = [await TestRoot.make(), await TestRoot.make("other")];
  const { serving, calling } = await pair(root);
  // The client trusts the server, the server not the client.
  calling.secrets.set(
    new Map([
      ["default", await other.workload("foo", "sleep")],
      ["ROOTCA", root.trust],
    ]),
  );
  const socket = await dial(calling.at("tcp"));
  socket.write("hello");
  expect((await readAll(socket)).text).toBe("");
  const plain = await dial(serving.at("in"));
  plain.write("hello, this is no TLS at all");
  expect((await readAll(plain)).text).toBe("");
  const text = await serving.metrics.text();
  expect(text).toMatch(/refused_total\{listener="in",reason="tls"\} 1/);
  expect(text).toMatch(/refused_total\{listener="in",reason="filter_chain_not_found"\} 1/);
});

for (const side of ["the server", "the client"] as const)
  test(`when ${side} stops trusting a root, a caller that was let in before is not let in by its old session`, async () => {
    const [root, other] = [await TestRoot.make(), await TestRoot.make("other")];
    const { serving, calling } = await pair(root);
    const ask = async () => {
      const socket = await dial(calling.at("tcp"));
      socket.end("hello");
      return (await readAll(socket)).text;
    };
    // Twice, so that the second connection takes up the session of the first.
    expect([await ask(), await ask()]).toEqual(["hello", "hello"]);
    const { secrets } = side === "the server" ? serving : calling;
    secrets.set(new Map([...secrets.value, ["ROOTCA", other.trust]]));
    expect(await ask()).toBe("");
    secrets.set(new Map([...secrets.value, ["ROOTCA", root.trust]]));
    expect(await ask()).toBe("hello");
  });
