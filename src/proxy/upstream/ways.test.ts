import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  ClusterSchema,
} from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ProxyProtocolConfig_Version } from "../../proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { RawBufferSchema } from "../../proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import type { Ip, SocketAddress } from "../../values/index.ts";
import { readProxyHeader } from "../l4/proxy-header.ts";
import { any, lbEndpoint, listener, milliseconds, staticCluster, tcpProxy } from "../testdata/resources.ts";
import { dial, readAll, readBytes, scene, server } from "../testdata/scene.ts";

/** Says its name to whoever connects, and ends. */
const named = (name: string) => server((socket) => socket.end(name));

const tcp = (filter: ReturnType<typeof tcpProxy>) => [listener("tcp", { filterChains: [{ filters: [filter] }] })];

const announcing = (version: ProxyProtocolConfig_Version) => ({
  name: "envoy.transport_sockets.upstream_proxy_protocol",
  configType: {
    case: "typedConfig" as const,
    value: any(ProxyProtocolUpstreamTransportSchema, {
      config: { version },
      transportSocket: {
        name: "raw_buffer",
        configType: { case: "typedConfig", value: any(RawBufferSchema, {}) },
      },
    }),
  },
});

/** What a server reads first, and what it is told of the caller. */
async function announced(version: ProxyProtocolConfig_Version) {
  let told: (bytes: Buffer) => void;
  const first = new Promise<Buffer>((resolve) => {
    told = resolve;
  });
  const app = await server((socket) => socket.once("data", told));
  const { at } = await scene({
    clusters: [staticCluster("app", [app], { transportSocket: announcing(version) })],
    listeners: tcp(tcpProxy("app")),
  });
  const client = await dial(at("tcp"));
  client.write("hello");
  return { bytes: await first, port: client.localPort };
}

for (const [what, version] of [
  ["1", ProxyProtocolConfig_Version.V1],
  ["2", ProxyProtocolConfig_Version.V2],
] as const) {
  test(`a cluster that wants PROXY version ${what} is told who called`, async () => {
    const { bytes, port } = await announced(version);
    const header = readProxyHeader(bytes);
    expect(header).toMatchObject({ kind: "header", carried: { source: { ip: "127.0.0.1", port } } });
    expect(bytes.toString("latin1").startsWith("PROXY TCP4 ")).toBe(what === "1");
  });
}

test("TCP is shared out among weighted clusters, by chance", async () => {
  let chance = 0;
  const clusters = [staticCluster("one", [await named("one")]), staticCluster("two", [await named("two")])];
  const weighted = tcpProxy("", {
    statPrefix: "weighted",
    clusterSpecifier: {
      case: "weightedClusters",
      value: {
        clusters: [
          { name: "one", weight: 1 },
          { name: "two", weight: 3 },
        ],
      },
    },
  });
  const { at } = await scene({ clusters, listeners: tcp(weighted) }, { random: () => chance });
  const reached = async (share: number) => {
    chance = share;
    return (await readAll(await dial(at("tcp")))).text;
  };
  expect([await reached(0), await reached(0.24), await reached(0.26), await reached(0.99)]).toEqual([
    "one",
    "one",
    "two",
    "two",
  ]);
});

const logical = (host: string, port: number, altStatName = "") => ({
  name: "app",
  version: "1",
  bytes: toBinary(
    ClusterSchema,
    create(ClusterSchema, {
      name: "app",
      altStatName,
      clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.LOGICAL_DNS },
      dnsLookupFamily: Cluster_DnsLookupFamily.V4_ONLY,
      dnsRefreshRate: milliseconds(60_000),
      loadAssignment: { clusterName: "app", endpoints: [{ lbEndpoints: [lbEndpoint({ ip: host, port })] }] },
    }),
  ),
});

test("of a name's addresses a LOGICAL_DNS cluster takes the first alone", async () => {
  const app = await named("app");
  const running = await scene(
    { clusters: [logical("app.example", app.port)], listeners: tcp(tcpProxy("app")) },
    { resolve: () => Promise.resolve({ addresses: ["127.0.0.1", "127.0.0.9"] as Ip[] }) },
  );
  const addresses = () => running.proxy.clusters()[0]!.endpoints.map(({ address }) => address);
  await expect.poll(addresses).toEqual([`127.0.0.1:${app.port}`]);
  expect((await readAll(await dial(running.at("tcp")))).text).toBe("app");
});

test("a cluster that takes another's place serves at once with what is known of its name", async () => {
  const app = await named("app");
  let asked = 0;
  const resolve = () => {
    asked++;
    return asked === 1 ? Promise.resolve({ addresses: ["127.0.0.1"] as Ip[] }) : new Promise<never>(() => {});
  };
  const first = logical("app.example", app.port);
  const running = await scene({ clusters: [first], listeners: tcp(tcpProxy("app")) }, { resolve });
  await expect.poll(() => running.proxy.clusters()[0]).toMatchObject({ endpoints: [{}] });
  expect(running.proxy.clusters()[0]).not.toHaveProperty("waiting");
  await running.change({ clusters: [logical("app.example", app.port, "another")] });
  expect(asked).toBe(2);
  expect((await readAll(await dial(running.at("tcp")))).text).toBe("app");
});

test("a cluster of whose name nothing is known says that it waits, until it is, be it that there is none", async () => {
  let answer: (reason: Error) => void = () => {};
  const resolve = () =>
    new Promise<never>((_, reject) => {
      answer = reject;
    });
  const running = await scene({ clusters: [logical("app.example", 1)] }, { resolve });
  expect(running.proxy.clusters()).toMatchObject([{ name: "app", waiting: true }]);
  answer(new Error("no such name"));
  await expect.poll(() => running.proxy.clusters()[0]).not.toHaveProperty("waiting");
});

test("an endpoint whose metadata match is spoken to in the way of the match, any other in the cluster's", async () => {
  const heard: string[] = [];
  const listening = () =>
    server((socket) => {
      socket.once("data", (bytes: Buffer) => {
        heard.push(bytes.toString("latin1").split(" ")[0]!);
        socket.end();
      });
    });
  const endpoint = (address: SocketAddress, announce: boolean) => ({
    ...lbEndpoint(address),
    ...(announce ? { metadata: { filterMetadata: { "envoy.transport_socket_match": { announce: "yes" } } } } : {}),
  });
  const [plain, told] = [await listening(), await listening()];
  const cluster = staticCluster("app", [], {
    loadAssignment: {
      clusterName: "app",
      endpoints: [{ lbEndpoints: [endpoint(plain, false), endpoint(told, true)] }],
    },
    transportSocketMatches: [
      { name: "told", match: { announce: "yes" }, transportSocket: announcing(ProxyProtocolConfig_Version.V1) },
    ],
  });
  const { at } = await scene({ clusters: [cluster], listeners: tcp(tcpProxy("app")) }, { random: () => 0 });
  for (let calls = 0; calls < 2; calls++) {
    const client = await dial(at("tcp"));
    client.write("hello there");
    await readAll(client);
  }
  expect(heard.sort()).toEqual(["PROXY", "hello"]);
});

test("a cluster takes no more connections than its circuit breaker lets", async () => {
  const app = await server((socket) => socket.write("ready"));
  const cluster = staticCluster("app", [app], { circuitBreakers: { thresholds: [{ maxConnections: 1 }] } });
  const { at, proxy } = await scene({ clusters: [cluster], listeners: tcp(tcpProxy("app")) });
  const first = await dial(at("tcp"));
  expect((await readBytes(first, 5)).toString()).toBe("ready");
  expect((await readAll(await dial(at("tcp")))).text).toBe("");
  expect(app.accepted()).toBe(1);
  first.resetAndDestroy();
  // Its place is free as soon as it is gone.
  await expect.poll(() => proxy.clusters()[0]!.connections).toBe(0);
  expect((await readBytes(await dial(at("tcp")), 5)).toString()).toBe("ready");
});
