import { request } from "node:http";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { systemClock } from "../base/index.ts";
import { FakeClock } from "../testing/index.ts";
import type { Ip, SocketAddress } from "../values/index.ts";
import { TestRoot } from "./testdata/certificates.ts";
import {
  clientTls,
  dnsCluster,
  edsCluster,
  endpoints,
  httpManager,
  inspectors,
  listener,
  milliseconds,
  originalDestinationCluster,
  routes,
  serverTls,
  socketAddress,
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

test("what is captured goes to the listener of its destination, and the rest where it was going", async () => {
  const [claimed, anywhere] = [
    await server((socket) => socket.end("claimed")),
    await server((socket) => socket.end("anywhere")),
  ];
  const scenario = await scene(
    {
      clusters: [staticCluster("claimed", [claimed]), originalDestinationCluster("passthrough")],
      listeners: [
        listener("outbound", { useOriginalDst: true, defaultFilterChain: { filters: [tcpProxy("passthrough")] } }),
        listener("240.0.0.2_8000", {
          address: socketAddress("240.0.0.2", 8000),
          bindToPort: false,
          filterChains: [{ filters: [tcpProxy("claimed")] }],
        }),
        listener("0.0.0.0_9000", {
          address: socketAddress("0.0.0.0", 9000),
          bindToPort: false,
          filterChains: [{ filters: [tcpProxy("claimed")] }],
        }),
      ],
    },
    { originalDestination: () => destination },
  );
  let destination: SocketAddress | undefined;
  const ask = async (to: SocketAddress | undefined) => {
    destination = to;
    return (await readAll(await dial(scenario.at("outbound")))).text;
  };
  expect(await ask({ ip: "240.0.0.2" as Ip, port: 8000 })).toBe("claimed");
  expect(await ask({ ip: "192.0.2.7" as Ip, port: 9000 })).toBe("claimed");
  expect(await ask(anywhere)).toBe("anywhere");
  // Not redirected, or redirected to ourselves: a circle, ended at once.
  expect(await ask(undefined)).toBe("");
  expect(await ask(scenario.at("outbound"))).toBe("");
});

test("a server that speaks first is not kept waiting beyond the detection time", async () => {
  const greeting = await server((socket) => socket.end("220 hello"));
  const { at } = await scene({
    clusters: [staticCluster("smtp", [greeting])],
    listeners: [
      listener("smtp", {
        listenerFilters: inspectors("tls_inspector", "http_inspector"),
        listenerFiltersTimeout: milliseconds(100),
        continueOnListenerFiltersTimeout: true,
        filterChains: [
          { filterChainMatch: { applicationProtocols: ["http/1.1"] }, filters: [tcpProxy("none")] },
          { filters: [tcpProxy("smtp")] },
        ],
      }),
    ],
  });
  expect((await readAll(await dial(at("smtp")))).text).toBe("220 hello");
});

test("a cluster with an endpoint that refuses is served by its next one", async () => {
  const target = await server((socket) => socket.end("here"));
  const { at } = await scene({
    clusters: [staticCluster("two", [{ ...target, port: 1 }, target])],
    listeners: [listener("two", { filterChains: [{ filters: [tcpProxy("two")] }] })],
  });
  for (let i = 0; i < 6; i++) expect((await readAll(await dial(at("two")))).text).toBe("here");
});

test("names of a DNS cluster are asked for again, and a failure keeps the last good addresses", async () => {
  const clock = new FakeClock();
  const target = await server((socket) => socket.end("named"));
  let answer: "good" | "bad" = "good";
  let asked = 0;
  const { at, proxy } = await scene(
    {
      clusters: [dnsCluster("named", "gateway.example", target.port, 5000)],
      listeners: [listener("named", { filterChains: [{ filters: [tcpProxy("named")] }] })],
    },
    {
      clock,
      resolve: (host, family) => {
        asked++;
        expect([host, family]).toEqual(["gateway.example", 4]);
        return answer === "good" ? Promise.resolve({ addresses: [target.ip] }) : Promise.reject(new Error("SERVFAIL"));
      },
    },
  );
  expect((await readAll(await dial(at("named")))).text).toBe("named");
  answer = "bad";
  await clock.advanceAsync(5000);
  expect(asked).toBe(2);
  expect((await readAll(await dial(at("named")))).text).toBe("named");
  expect(proxy.clusters()[0]!.endpoints.map(({ address }) => address)).toEqual([`127.0.0.1:${target.port}`]);
});

test.each([
  ["TCP", [tcpProxy("named")]],
  ["HTTP", [httpManager("all")]],
] as const)(
  "a call over %s that comes before a new cluster's first answer of DNS waits for it",
  async (_name, filters) => {
    const target = await server((socket) => {
      socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnamed"));
    });
    let answer: ((found: { addresses: Ip[] }) => void) | undefined;
    const { at } = await scene(
      {
        clusters: [dnsCluster("named", "gateway.example", target.port, 5000)],
        listeners: [listener("named", { filterChains: [{ filters: [...filters] }] })],
        routes: [routes("all", "named")],
      },
      { resolve: () => new Promise((resolve) => (answer = resolve)) },
    );
    const socket = await dial(at("named"));
    socket.write("GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    const answered = readAll(socket);
    await expect.poll(() => answer).toBeDefined();
    await new Promise((resolve) => setImmediate(resolve));
    answer!({ addresses: [target.ip] });
    expect((await answered).text).toMatch(/^HTTP\/1\.1 200 OK(.|\r\n)*named$/);
  },
);

test("a changed listener keeps its socket, its old chain's connections finish, new ones take the new chain", async () => {
  const [one, two] = [await echo(), await server((socket) => socket.end("two"))];
  const { at, change } = await scene({
    clusters: [staticCluster("one", [one]), staticCluster("two", [two])],
    listeners: [listener("l", { filterChains: [{ filters: [tcpProxy("one")] }] })],
  });
  const before = at("l");
  const old = await dial(before);
  old.write("a");
  await readBytes(old, 1);
  await change({ listeners: [listener("l", { filterChains: [{ filters: [tcpProxy("two")] }] })] });
  expect(at("l")).toEqual(before);
  expect((await readAll(await dial(before))).text).toBe("two");
  old.end("still");
  expect((await readAll(old)).text).toBe("still");
  await change({}, { listeners: ["l"] });
  await expect(dial(before)).rejects.toThrow("ECONNREFUSED");
});

test("an address that is taken is said, tried again, and keeps nothing else from running", async () => {
  const blocking = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => blocking.once("listening", resolve));
  const { port } = blocking.address() as { port: number };
  const target = await server((socket) => socket.end("up"));
  const { proxy, at } = await scene({
    clusters: [staticCluster("up", [target])],
    listeners: [
      listener("taken", { address: socketAddress("127.0.0.1", port), filterChains: [{ filters: [tcpProxy("up")] }] }),
      listener("free", { filterChains: [{ filters: [tcpProxy("up")] }] }),
    ],
  });
  expect(proxy.listeners().find(({ name }) => name === "taken")!.error).toMatch(
    /cannot listen on "127.0.0.1:\d+": EADDRINUSE/,
  );
  expect((await readAll(await dial(at("free")))).text).toBe("up");
  await new Promise((resolve) => blocking.close(resolve));
  while (proxy.addressesOf("taken").length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  expect((await readAll(await dial(at("taken")))).text).toBe("up");
});

test("a connection announced by the PROXY protocol goes where its header says it was meant for", async () => {
  const target = await echo();
  const { at } = await scene({
    clusters: [staticCluster("echo", [target])],
    listeners: [
      listener("fronted", {
        listenerFilters: inspectors("proxy_protocol"),
        filterChains: [{ filterChainMatch: { destinationPort: 8443 }, filters: [tcpProxy("echo")] }],
      }),
    ],
  });
  const ask = async (text: string) => {
    const socket = await dial(at("fronted"));
    socket.end(text);
    return (await readAll(socket)).text;
  };
  expect(await ask("PROXY TCP4 192.0.2.1 192.0.2.2 555 8443\r\nhello")).toBe("hello");
  expect(await ask("PROXY TCP4 192.0.2.1 192.0.2.2 555 80\r\nhello")).toBe("");
  expect(await ask("hello without a header")).toBe("");
});

test("a proxy that stops lets what runs finish until its deadline", async () => {
  const target = await echo();
  const { at, scope } = await scene({
    clusters: [staticCluster("echo", [target])],
    listeners: [listener("l", { filterChains: [{ filters: [tcpProxy("echo")] }] })],
  });
  const address = at("l");
  const socket = await dial(address);
  socket.write("x");
  await readBytes(socket, 1);
  const closing = scope.close({ drainMs: 5000, clock: systemClock });
  await new Promise((resolve) => setImmediate(resolve));
  await expect(dial(address)).rejects.toThrow("ECONNREFUSED");
  socket.end("last");
  expect((await readAll(socket)).text).toBe("last");
  await closing;
});
