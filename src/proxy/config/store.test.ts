import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { silentLogger } from "../../base/index.ts";
import { Cluster_DiscoveryType, ClusterSchema } from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { SecretSchema } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { DownstreamTlsContextSchema } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { typeUrls } from "../../proto/index.ts";
import { FakeClock, testAuthority } from "../../testing/index.ts";
import type { Ip } from "../../values/index.ts";
import {
  any,
  edsCluster,
  endpoints,
  httpManager,
  listener,
  routes,
  serverTls,
  socketAddress,
  staticCluster,
  tcpProxy,
} from "../testdata/resources.ts";
import { ConfigStore } from "./store.ts";

const here = { ip: "127.0.0.1" as Ip, port: 80 };
const newStore = (clock = new FakeClock()) => ({ clock, store: new ConfigStore({ clock, log: silentLogger }) });
const http = (name: string, routesName: string, port = 8000) =>
  listener(name, { address: socketAddress("0.0.0.0", port), filterChains: [{ filters: [httpManager(routesName)] }] });

test("a listener is put to work when its routes are there, and what it asks for is told", () => {
  const { store } = newStore();
  expect(store.apply(typeUrls.listener, [http("l", "8000")], [])).toEqual([]);
  expect([...store.wanted.value.routes]).toEqual(["8000"]);
  expect(store.active.value.listeners.has("l")).toBe(false);
  store.apply(typeUrls.route, [routes("8000", "c")], []);
  expect(store.active.value.listeners.has("l")).toBe(true);
});

test("a changed listener waits for its new routes while the old one serves on, but not for ever", () => {
  const { store, clock } = newStore();
  store.apply(typeUrls.listener, [http("l", "old")], []);
  store.apply(typeUrls.route, [routes("old", "c")], []);
  const before = store.active.value.listeners.get("l");
  store.apply(typeUrls.listener, [http("l", "new")], []);
  expect(store.active.value.listeners.get("l")).toBe(before);
  expect(store.active.value.routes.has("old")).toBe(true);
  expect(store.dump().find(({ name }) => name === "l")!.state).toBe("warming");
  clock.advance(14_999);
  expect(store.active.value.listeners.get("l")).toBe(before);
  clock.advance(1);
  expect(store.active.value.listeners.get("l")).not.toBe(before);
});

test("a new cluster waits for its endpoints, a changed one keeps those it has", () => {
  const { store } = newStore();
  store.apply(typeUrls.cluster, [edsCluster("c")], []);
  expect([...store.wanted.value.endpoints]).toEqual(["c"]);
  expect(store.active.value.clusters.has("c")).toBe(false);
  store.apply(typeUrls.endpoints, [endpoints("c", [here])], []);
  const before = store.active.value.clusters.get("c");
  expect(before).toBeDefined();
  store.apply(typeUrls.cluster, [edsCluster("c", { connectTimeout: { seconds: 1n, nanos: 0 } })], []);
  expect(store.active.value.clusters.get("c")).not.toBe(before);
  expect(store.active.value.endpoints.has("c")).toBe(true);
});

test("what is refused leaves its last good value in force and keeps no other from being taken", () => {
  const { store } = newStore();
  store.apply(typeUrls.cluster, [staticCluster("a", [here])], []);
  const before = store.active.value.clusters.get("a");
  const refusals = store.apply(
    typeUrls.cluster,
    [staticCluster("a", [{ ip: "not-an-address" as Ip, port: 80 }]), staticCluster("b", [here])],
    [],
  );
  expect(refusals).toEqual([
    {
      name: "a",
      message:
        'load_assignment.endpoints[0].lb_endpoints[0]: must be an IP address in a STATIC cluster, got "not-an-address"',
    },
  ]);
  expect(store.active.value.clusters.get("a")).toBe(before);
  expect(store.active.value.clusters.has("b")).toBe(true);
  expect(store.refused.size).toBe(1);
  store.apply(typeUrls.cluster, [staticCluster("a", [here])], []);
  expect(store.refused.size).toBe(0);
});

test("the same bytes again are the same object, and nobody is told", () => {
  const { store } = newStore();
  store.apply(typeUrls.cluster, [staticCluster("a", [here])], []);
  let told = 0;
  store.active.subscribe(() => told++);
  const before = store.active.value;
  store.apply(typeUrls.cluster, [staticCluster("a", [here])], []);
  expect(store.active.value).toBe(before);
  expect(told).toBe(0);
});

const chainTwice = { filterChainMatch: { serverNames: ["a.b"] }, filters: [tcpProxy("c")] };
const refused: ReadonlyArray<readonly [string, keyof typeof typeUrls, ReturnType<typeof listener>, RegExp]> = [
  [
    "bytes that are no message",
    "listener",
    { name: "l", bytes: new Uint8Array([0xff, 0xff]) },
    /^is no envoy\.config\.listener/,
  ],
  ["a listener without chains", "listener", listener("l", {}), /^filter_chains: is empty$/],
  [
    "a chain without filters",
    "listener",
    listener("l", { filterChains: [{}] }),
    /^filter_chains\[0\]\.filters: is empty/,
  ],
  [
    "a filter nobody knows",
    "listener",
    listener("l", { filterChains: [{ filters: [{ name: "envoy.lua" }, tcpProxy("c")] }] }),
    /^filter_chains\[0\]\.filters\[0\]: network filter "envoy\.lua"/,
  ],
  [
    "a listener filter nobody knows",
    "listener",
    listener("l", { listenerFilters: [{ name: "x" }], filterChains: [{ filters: [tcpProxy("c")] }] }),
    /^listener_filters\[0\]/,
  ],
  [
    "two chains that ask for the same",
    "listener",
    listener("l", { filterChains: [chainTwice, { ...chainTwice, name: "b" }] }),
    /^filter_chains\[1\]: asks for the same as an earlier chain \(server name "a\.b"\)/,
  ],
  [
    "a name where an address must be",
    "listener",
    listener("l", { address: socketAddress("example.com", 80), filterChains: [{ filters: [tcpProxy("c")] }] }),
    /^address\.socket_address\.address: must be an IP address, got "example\.com"/,
  ],
  [
    "a port above 65535",
    "listener",
    listener("l", { address: socketAddress("127.0.0.1", 65536), filterChains: [{ filters: [tcpProxy("c")] }] }),
    /must be between 1 and 65535, got 65536/,
  ],
  [
    "a wildcard in the middle of a server name",
    "listener",
    listener("l", { filterChains: [{ filterChainMatch: { serverNames: ["a.*.b"] }, filters: [tcpProxy("c")] }] }),
    /server_names\[0\]: must be a name/,
  ],
  [
    "a name that is not its own",
    "cluster",
    { ...staticCluster("a", [here]), name: "b" },
    /^name: is "a", announced as "b"/,
  ],
  [
    "an EDS cluster from elsewhere than ADS",
    "cluster",
    {
      name: "a",
      bytes: toBinary(
        ClusterSchema,
        create(ClusterSchema, { name: "a", clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS } }),
      ),
    },
    /^eds_cluster_config\.eds_config: must be ads/,
  ],
];
for (const [name, type, resource, wanted] of refused)
  test(`${name} is refused with its field path`, () => {
    const [refusal] = newStore().store.apply(typeUrls[type], [resource], []);
    expect(refusal?.message).toMatch(wanted);
  });

test("two listeners cannot have one address, and one may take it over when the other goes", () => {
  const { store } = newStore();
  const tcp = (name: string) =>
    listener(name, { address: socketAddress("0.0.0.0", 15443), filterChains: [{ filters: [tcpProxy("c")] }] });
  expect(store.apply(typeUrls.listener, [tcp("a")], [])).toEqual([]);
  expect(store.apply(typeUrls.listener, [tcp("b")], [])[0]!.message).toBe(
    'address: "0.0.0.0:15443" is taken by listener "a"',
  );
  expect(store.apply(typeUrls.listener, [tcp("b")], ["a"])).toEqual([]);
});

test("whatever the bytes, a refusal or a value comes back and nothing is thrown", () => {
  const good = listener("l", { filterChains: [{ transportSocket: serverTls(), filters: [tcpProxy("c")] }] }).bytes;
  fc.assert(
    fc.property(
      fc.nat(good.length - 1),
      fc.nat(255),
      fc.constantFrom("listener", "cluster", "endpoints", "route"),
      (at, value, type) => {
        const bytes = Uint8Array.from(good);
        bytes[at] = value;
        const { store } = newStore();
        expect(Array.isArray(store.apply(typeUrls[type as "listener"], [{ name: "l", bytes }], []))).toBe(true);
        store.stop();
      },
    ),
    { numRuns: 400 },
  );
});

const toldTls = {
  name: "envoy.transport_sockets.tls",
  configType: {
    case: "typedConfig" as const,
    value: any(DownstreamTlsContextSchema, {
      commonTlsContext: {
        tlsCertificateSdsSecretConfigs: [
          { name: "kubernetes://a", sdsConfig: { configSourceSpecifier: { case: "ads", value: {} } } },
        ],
        validationContextType: {
          case: "combinedValidationContext",
          value: { validationContextSdsSecretConfig: { name: "file-root:/ca.pem" }, defaultValidationContext: {} },
        },
      },
    }),
  },
};
const secured = (name: string, port: number) =>
  listener(name, {
    address: socketAddress("0.0.0.0", port),
    filterChains: [{ transportSocket: toldTls, filters: [tcpProxy("c")] }],
  });
const secret = (chain: string, key: string) => {
  const source = (text: string) => ({ specifier: { case: "inlineString" as const, value: text } });
  const name = "kubernetes://a";
  const type = { case: "tlsCertificate" as const, value: { certificateChain: source(chain), privateKey: source(key) } };
  return { name, bytes: toBinary(SecretSchema, create(SecretSchema, { name, type })) };
};
const root = await testAuthority();
const issued = await root.issue({ dns: ["a.test"] });
const good = secret(issued.certChainPem, issued.privateKeyPem);

test("a listener asks for its secrets, those of the control plane apart from those of the agent, and waits for an answer", () => {
  const { store } = newStore();
  store.apply(typeUrls.listener, [secured("l", 443)], []);
  expect([...store.wanted.value.secrets]).toEqual(["kubernetes://a"]);
  expect([...store.wanted.value.agentSecrets]).toEqual(["file-root:/ca.pem"]);
  expect(store.active.value.listeners.has("l")).toBe(false);
  expect(store.apply(typeUrls.secret, [good], [])).toEqual([]);
  expect(store.secrets.value.get("kubernetes://a")?.kind).toBe("certificate");
  expect(store.active.value.listeners.has("l")).toBe(true);
});

test("that there is no such secret is an answer too", () => {
  const { store } = newStore();
  store.apply(typeUrls.listener, [secured("l", 443)], []);
  store.apply(typeUrls.secret, [], ["kubernetes://a"]);
  expect(store.active.value.listeners.has("l")).toBe(true);
  expect(store.secrets.value.size).toBe(0);
});

test("a secret that goes or breaks stays as it was while a listener uses it, and goes with the listener", () => {
  const { store } = newStore();
  store.apply(typeUrls.listener, [secured("l", 443)], []);
  store.apply(typeUrls.secret, [good], []);
  const before = store.secrets.value;
  expect(store.apply(typeUrls.secret, [secret("no certificate", issued.privateKeyPem)], [])).toEqual([
    { name: "kubernetes://a", message: expect.stringContaining("cannot be used") },
  ]);
  store.apply(typeUrls.secret, [], ["kubernetes://a"]);
  expect(store.secrets.value).toBe(before);
  store.apply(typeUrls.listener, [], ["l"]);
  store.apply(typeUrls.cluster, [staticCluster("c", [here])], []);
  expect(store.secrets.value.size).toBe(0);
});

test("no secret is in the dump", () => {
  const { store } = newStore();
  store.apply(typeUrls.listener, [secured("l", 443)], []);
  store.apply(typeUrls.secret, [good], []);
  expect(store.dump().map(({ name }) => name)).toEqual(["l"]);
});
