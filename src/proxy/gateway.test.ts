import { readFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { expect, test } from "vitest";
import { scratchDir } from "../testing/index.ts";
import type { SocketAddress } from "../values/index.ts";
import { TestRoot } from "./testdata/certificates.ts";
import {
  fileLog,
  inspectors,
  listener,
  milliseconds,
  serverTls,
  staticCluster,
  tcpProxy,
} from "./testdata/resources.ts";
import { dial, echo, readAll, scene, server } from "./testdata/scene.ts";

const exposed = "outbound_.8000_._.httpbin.bar.global";

const logFields = {
  flags: "%RESPONSE_FLAGS%",
  details: "%RESPONSE_CODE_DETAILS%",
  why: "%CONNECTION_TERMINATION_DETAILS%",
  sni: "%REQUESTED_SERVER_NAME%",
  cluster: "%UPSTREAM_CLUSTER%",
};

/** A gateway that exposes one name, with a backend that counts who comes. */
async function gateway(target: SocketAddress) {
  const log = `${scratchDir()}/access.log`;
  const running = await scene({
    clusters: [staticCluster("outbound_.8000_._.httpbin.bar.svc.cluster.local", [target])],
    listeners: [
      listener("0.0.0.0_15443", {
        listenerFilters: inspectors("tls_inspector"),
        listenerFiltersTimeout: milliseconds(300),
        accessLog: [fileLog(log, logFields)],
        filterChains: [
          {
            name: "httpbin",
            filterChainMatch: { serverNames: [exposed, "outbound_.8000_._.httpbin.bar.svc.cluster.local"] },
            filters: [
              tcpProxy("outbound_.8000_._.httpbin.bar.svc.cluster.local", { accessLog: [fileLog(log, logFields)] }),
            ],
          },
        ],
      }),
    ],
  });
  /** Closes the proxy, so that every line is written, and gives them. */
  const lines = async (): Promise<Array<Record<string, unknown>>> => {
    await running.scope.close();
    return readFileSync(log, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  return { ...running, at: running.at("0.0.0.0_15443"), lines };
}

const hello = (name: string) => {
  // A ClientHello of TLS 1.3, written out: one cipher, the server name, the versions.
  const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
  const sized = (bytes: Buffer) => Buffer.concat([u16(bytes.length), bytes]);
  const sni = Buffer.concat([
    u16(0),
    sized(sized(Buffer.concat([Buffer.from([0]), sized(Buffer.from(name, "latin1"))]))),
  ]);
  const versions = Buffer.concat([u16(43), sized(Buffer.from([2, 3, 4]))]);
  const body = Buffer.concat([
    u16(0x0303),
    Buffer.alloc(33),
    sized(u16(0x1301)),
    Buffer.from([1, 0]),
    sized(Buffer.concat(name === "" ? [versions] : [sni, versions])),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), u16(body.length), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(message)]);
};

test("TLS with an exposed name reaches its workload unopened, whatever the case and dot of the name", async () => {
  const root = await TestRoot.make();
  const app = await echo();
  const workload = await scene(
    {
      clusters: [staticCluster("app", [app])],
      listeners: [
        listener("in", {
          filterChains: [{ transportSocket: serverTls({ required: false }), filters: [tcpProxy("app")] }],
        }),
      ],
    },
    { secrets: { default: await root.workload("bar", "httpbin"), ROOTCA: root.trust } },
  );
  const { at, lines } = await gateway(workload.at("in"));
  for (const name of [exposed, exposed.toUpperCase()]) {
    const socket = connectTls({ host: at.ip, port: at.port, servername: name, rejectUnauthorized: false });
    await new Promise<void>((resolve, reject) => void socket.once("secureConnect", resolve).once("error", reject));
    expect(socket.getPeerCertificate().subjectaltname).toBe("URI:spiffe://cluster.local/ns/bar/sa/httpbin");
    socket.end("through");
    expect((await readAll(socket)).text).toBe("through");
  }
  const [first] = await lines();
  expect(first).toMatchObject({
    sni: exposed,
    cluster: "outbound_.8000_._.httpbin.bar.svc.cluster.local",
    flags: null,
  });
});

const refusals: ReadonlyArray<{
  readonly it: string;
  readonly send: Buffer | string;
  readonly end?: boolean;
  readonly flags: string;
  readonly why: string;
}> = [
  {
    it: "a name that is not exposed",
    send: hello("outbound_.8000_._.secret.kube-system.svc.cluster.local"),
    flags: "NR",
    why: "unknown_server_name",
  },
  { it: "a name below an exposed one", send: hello(`x.${exposed}`), flags: "NR", why: "unknown_server_name" },
  {
    it: "the name of a cluster of the gateway itself",
    send: hello("BlackHoleCluster"),
    flags: "NR",
    why: "unknown_server_name",
  },
  { it: "no server name", send: hello(""), flags: "NR", why: "no_server_name" },
  { it: "plain HTTP", send: "GET / HTTP/1.1\r\nHost: httpbin.bar.global\r\n\r\n", flags: "NR", why: "plaintext" },
  { it: "random bytes", send: Buffer.from([0xde, 0xad, 0xbe, 0xef]), flags: "NR", why: "plaintext" },
  {
    it: "an SSLv2 hello",
    send: Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]),
    flags: "DPE",
    why: "bad_client_hello",
  },
  { it: "a server name with control characters", send: hello("a\r\nb\x1b[2J"), flags: "DPE", why: "bad_client_hello" },
  { it: "silence", send: "", flags: "NR", why: "no_client_hello" },
  {
    it: "a hello that stops in the middle",
    send: hello(exposed).subarray(0, 20),
    flags: "NR",
    why: "slow_client_hello",
  },
  { it: "an end before anything", send: "", end: true, flags: "DC", why: "closed_early" },
];
for (const { it, send, end, flags, why } of refusals)
  test(`${it}: closed, counted, said in the log, and no backend is connected to`, async () => {
    const target = await server(() => {});
    const { at, lines, metrics } = await gateway(target);
    const socket = await dial(at);
    if (end) socket.end();
    else if (send.length > 0) socket.write(send);
    expect((await readAll(socket)).text).toBe("");
    expect(await metrics.text()).toContain(
      `isthmus_proxy_connections_refused_total{listener="0.0.0.0_15443",reason="${why}"} 1`,
    );
    const [line, ...more] = await lines();
    expect(more).toEqual([]);
    expect(line).toMatchObject({ flags, cluster: null });
    expect(String(line!["why"])).toMatch(new RegExp(`^${why}: `));
    expect(target.accepted()).toBe(0);
  });

test("an exposed name whose workload is away says that it cannot be reached", async () => {
  const target = await server(() => {});
  const { at, lines } = await gateway({ ...target, port: 1 });
  const socket = await dial(at);
  socket.write(hello(exposed));
  expect((await readAll(socket)).text).toBe("");
  expect((await lines())[0]).toMatchObject({ flags: "UF", details: "connect_refused", sni: exposed });
});
