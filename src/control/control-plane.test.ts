import { Resolver } from "node:dns/promises";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
import { describe, expect, onTestFinished, test } from "vitest";
import type { AdsClient } from "../ads/index.ts";
import { type Failure, until } from "../base/index.ts";
import { decodeCertificates, encodeCsr, makeKeyPair, makeTokenKey } from "../ca/index.ts";
import { typeUrls } from "../proto/index.ts";
import type { StatusLine } from "./status.ts";
import {
  certificateOf,
  certificatesOf,
  entry,
  folders,
  loopback,
  opensslCertificate,
  proxyOn,
  type Running,
  root,
  running,
  secured,
  testScope,
  tokenFile,
} from "./testdata/scene.ts";

// A whole control plane in this process: real files, real gRPC over TLS, real DNS, on loopback.

const sleep = "spiffe://cluster.local/ns/foo/sa/sleep";
const host = "httpbin.bar.global";

function withFiles(files: Readonly<Record<string, string>>) {
  const at = folders();
  mkdirSync(at.config);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(at.config, name), text);
  return at;
}

const plaintext = (plane: Running) => ({
  target: `127.0.0.1:${plane.ports.plaintext}`,
  security: { kind: "plaintext" } as const,
});
const problems = async (plane: Running) => (await plane.ask("/problems")) as readonly StatusLine[];
const patient = { timeout: 5_000, interval: 10 };

function resolverOf(plane: Running): Resolver {
  const resolver = new Resolver({ timeout: 1_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${plane.ports.dns}`]);
  return resolver;
}

/** Waits for a failure to connect, and says why. */
async function refusalOf(client: AdsClient): Promise<string> {
  const state = await until(client.state, ({ phase }) => phase === "waiting", AbortSignal.timeout(5_000));
  return state.phase === "waiting" ? `${state.failure.code}: ${state.failure.message}` : "";
}

describe("an unmodified gRPC client that speaks xDS", () => {
  const plain = (bytes: Buffer) => bytes;

  /** A service that says its name. */
  async function startEcho(name: string): Promise<number> {
    const server = new Server();
    const method = {
      path: "/test.Echo/Say",
      requestStream: false,
      responseStream: false,
      requestSerialize: plain,
      requestDeserialize: plain,
      responseSerialize: plain,
      responseDeserialize: plain,
    };
    server.addService(
      { say: method },
      { say: (_call: unknown, reply: (error: null, answer: Buffer) => void) => reply(null, Buffer.from(name)) },
    );
    onTestFinished(() => server.forceShutdown());
    return new Promise((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      );
    });
  }

  test("resolves a name of a folder of YAML, calls it, and follows an edit of the file", async () => {
    const name = "echo.example.com";
    const local = (port: number) =>
      entry({ host: name, protocol: "grpc", location: "MESH_EXTERNAL", endpoint: "127.0.0.1", endpointPort: port });
    const plane = await running(withFiles({ "echo.yaml": local(await startEcho("first")) }));
    register();
    const client = new Client(`xds:///${name}:8000`, credentials.createInsecure(), {
      "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config": JSON.stringify({
        xds_servers: [
          {
            server_uri: `127.0.0.1:${plane.ports.plaintext}`,
            channel_creds: [{ type: "insecure" }],
            server_features: ["xds_v3"],
          },
        ],
        node: {
          id: "sidecar~10.0.0.1~client.foo~foo.svc.cluster.local",
          cluster: "client",
          locality: {},
          metadata: { GENERATOR: "grpc", NAMESPACE: "foo" },
        },
      }),
    });
    onTestFinished(() => client.close());
    const say = () =>
      new Promise<string>((resolve, reject) => {
        client.makeUnaryRequest(
          "/test.Echo/Say",
          plain,
          plain,
          Buffer.alloc(0),
          { deadline: Date.now() + 8_000 },
          (error, answer) => (error ? reject(error) : resolve(String(answer))),
        );
      });
    expect(await say()).toBe("first");
    plane.write("echo.yaml", local(await startEcho("second")));
    await expect.poll(say, patient).toBe("second");
    expect(plane.ads.receipts.all().filter(({ nacked }) => nacked !== undefined)).toEqual([]);
    expect(await problems(plane)).toEqual([]);
  });
});

describe("who is let in to discovery", () => {
  test("a workload with a certificate of its own namespace is served", async () => {
    const plane = await running(withFiles({ "entry.yaml": entry({ host }) }));
    const proxy = proxyOn({
      target: `127.0.0.1:${plane.ports.secure}`,
      security: secured(await certificateOf(plane.at, sleep)),
      scope: testScope(),
    });
    await expect.poll(() => [...proxy.names(typeUrls.cluster)], patient).toContain(`outbound|8000||${host}`);
    await expect.poll(() => [...proxy.names(typeUrls.names)], patient).toEqual([host]);
  });

  const refused: ReadonlyArray<{
    readonly it: string;
    readonly material: (plane: Running) => ReturnType<typeof certificateOf>;
    readonly says: RegExp;
  }> = [
    {
      it: "a certificate of another namespace",
      material: ({ at }) => certificateOf(at, "spiffe://cluster.local/ns/bar/sa/sleep"),
      says: /permission-denied.*namespace "foo".*"spiffe:\/\/cluster.local\/ns\/bar\/sa\/sleep"/,
    },
    {
      it: "a certificate of another trust domain",
      material: ({ at }) => certificateOf(at, "spiffe://elsewhere.example/ns/foo/sa/sleep", "elsewhere.example"),
      says: /permission-denied.*foreign trust domain "elsewhere.example"/,
    },
    {
      it: "a certificate of two identities",
      material: async ({ at }) => opensslCertificate(at, `URI:${sleep},URI:spiffe://cluster.local/ns/bar/sa/sleep`),
      says: /permission-denied.*2 URIs.*exactly one/,
    },
    {
      it: "a certificate that our own CA signed and that names no identity",
      material: async ({ at }) => opensslCertificate(at, "DNS:sleep.foo"),
      says: /permission-denied.*names no identity/,
    },
    {
      it: "no certificate",
      material: async () => ({ rootsPem: root["root-cert.pem"] }),
      says: /unauthenticated.*client certificate/,
    },
  ];
  for (const { it, material, says } of refused) {
    test(`${it} is refused with the reason`, async () => {
      const plane = await running(withFiles({ "entry.yaml": entry({ host }) }));
      const proxy = proxyOn({
        target: `127.0.0.1:${plane.ports.secure}`,
        security: secured(await material(plane)),
        scope: testScope(),
      });
      expect(await refusalOf(proxy.client)).toMatch(says);
      expect(proxy.changes).toEqual([]);
      expect(plane.ads.connections()).toEqual([]);
    });
  }
});

describe("certificates of the whole server", () => {
  const ask = { ttlMs: 60_000, signal: new AbortController().signal };
  const csr = () => encodeCsr(makeKeyPair("ec-p256").privateKey);
  const identityIn = (pem: string) => decodeCertificates(pem)[0]?.title;
  const codeOf = (asked: Promise<unknown>) =>
    asked.then(
      () => "signed",
      (caught: Failure) => `${caught.code}: ${caught.message}`,
    );

  test("come first by a token and then by the certificate, and are good for discovery", async () => {
    const plane = await running(withFiles({ "entry.yaml": entry({ host }) }));
    const keys = makeKeyPair("ec-p256");
    const token = await tokenFile(plane.at, { namespace: "foo", serviceAccount: "sleep" });
    const first = await certificatesOf(plane, { tokenFile: token })(encodeCsr(keys.privateKey), ask);
    expect(identityIn(first.certificate)).toBe(sleep);
    const material = {
      certChainPem: [first.certificate, ...first.intermediates].join(""),
      privateKeyPem: keys.privateKey.export({ format: "pem", type: "pkcs8" }) as string,
      rootsPem: first.roots,
    };
    const second = await certificatesOf(plane, { material })(csr(), ask);
    expect(identityIn(second.certificate)).toBe(sleep);
    const proxy = proxyOn({
      target: `127.0.0.1:${plane.ports.secure}`,
      security: secured(material),
      scope: testScope(),
    });
    await expect.poll(() => proxy.names(typeUrls.cluster).size, patient).toBeGreaterThan(0);
  });

  test("are for who the token names, whatever the request asks for", async () => {
    const plane = await running(withFiles({}));
    const token = await tokenFile(plane.at, { namespace: "foo", serviceAccount: "other" });
    const wish = encodeCsr(makeKeyPair("ec-p256").privateKey, [{ kind: "uri", value: sleep }]);
    const answer = await certificatesOf(plane, { tokenFile: token })(wish, ask);
    expect(decodeCertificates(answer.certificate)[0]?.names).toEqual([
      { kind: "uri", value: "spiffe://cluster.local/ns/foo/sa/other" },
    ]);
  });

  test("are refused for a token of somebody else's key, and for nothing shown", async () => {
    const plane = await running(withFiles({}));
    const forged = await tokenFile(plane.at, { namespace: "foo", serviceAccount: "forged", key: makeTokenKey("lab") });
    expect(await codeOf(certificatesOf(plane, { tokenFile: forged })(csr(), ask))).toMatch(/grpc\/unauthenticated/);
    expect(await codeOf(certificatesOf(plane, {})(csr(), ask))).toMatch(/grpc\/unauthenticated.*neither/);
  });
});

describe("what is wrong", () => {
  test("an edit that does not read leaves the last good in force and shows its place until it is mended", async () => {
    const good = entry({ host, vip: "240.0.0.2" });
    const plane = await running(withFiles({ "entry.yaml": good }));
    const resolver = resolverOf(plane);
    plane.write("entry.yaml", good.replace("number: 8000", "number: 70000"));
    await expect.poll(() => problems(plane), patient).toHaveLength(1);
    const [problem] = await problems(plane);
    expect(problem).toMatchObject({ severity: "error", where: expect.stringMatching(/entry\.yaml:12:13$/) });
    expect(problem?.message).toMatch(/^spec\.ports\[0\]\.number: .*70000/);
    expect(await resolver.resolve4(host)).toEqual(["240.0.0.2"]);
    expect([...plane.mesh.value.services.keys()]).toContain(host);
    plane.write("entry.yaml", good.replace("240.0.0.2", "240.0.0.3"));
    await expect.poll(() => problems(plane), patient).toEqual([]);
    await expect.poll(() => resolver.resolve4(host), patient).toEqual(["240.0.0.3"]);
  });

  test("what a proxy refuses shows at the object that it was made from, and goes when it is taken", async () => {
    const name = `outbound|8000||${host}`;
    const plane = await running(withFiles({ "entry.yaml": entry({ host }) }));
    let refusing = false;
    const proxy = proxyOn({
      ...plaintext(plane),
      scope: testScope(),
      refuse: ({ updated }) =>
        refusing
          ? updated
              .filter((one) => one.name === name)
              .map((one) => ({ name: one.name, reason: `${one.name}: not this` }))
          : [],
    });
    await expect.poll(() => [...proxy.names(typeUrls.cluster)], patient).toContain(name);
    refusing = true;
    plane.write(
      "rule.yaml",
      `apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: httpbin
  namespace: foo
spec:
  host: ${host}
  trafficPolicy:
    connectionPool:
      tcp:
        connectTimeout: 3s
`,
    );
    await expect.poll(async () => (await problems(plane)).map(({ code }) => code), patient).toContain("xds/refused");
    const lines = (await problems(plane)).filter(({ code }) => code === "xds/refused");
    expect(lines.map(({ where }) => where)).toEqual(
      expect.arrayContaining([expect.stringMatching(/\/entry\.yaml:\d+/), expect.stringMatching(/\/rule\.yaml:\d+/)]),
    );
    expect(lines[0]?.message).toMatch(
      /sidecar~10\.0\.0\.1~sleep\.foo.*refuses "outbound\|8000\|\|httpbin\.bar\.global": .*not this/,
    );
    expect(plane.ads.connections()).toHaveLength(1);
    refusing = false;
    plane.write("rule.yaml", "");
    plane.remove("rule.yaml");
    await expect.poll(() => problems(plane), patient).toEqual([]);
  });
});

test("an entry that is written, edited or deleted is so for proxies and names well within two seconds", async () => {
  const plane = await running(withFiles({ "other.yaml": entry({ host: "other.bar.global", vip: "240.0.0.9" }) }));
  const resolver = resolverOf(plane);
  const proxy = proxyOn({ ...plaintext(plane), scope: testScope() });
  await expect.poll(() => proxy.names(typeUrls.names).size, patient).toBe(1);
  const cluster = `outbound|8000||${host}`;
  const seen = async () => ({
    name: await resolver.resolve4(host).then(
      ([ip]) => ip,
      (caught: NodeJS.ErrnoException) => caught.code,
    ),
    cluster: proxy.names(typeUrls.cluster).has(cluster),
    table: proxy.names(typeUrls.names).has(host),
  });
  expect(await seen()).toEqual({ name: "ENOTFOUND", cluster: false, table: false });

  const took: Record<string, number> = {};
  for (const [what, act, wanted] of [
    [
      "added",
      () => plane.write("entry.yaml", entry({ host, vip: "240.0.0.2" })),
      { name: "240.0.0.2", cluster: true, table: true },
    ],
    [
      "edited",
      () => plane.write("entry.yaml", entry({ host, vip: "240.0.0.3" })),
      { name: "240.0.0.3", cluster: true, table: true },
    ],
    ["deleted", () => plane.remove("entry.yaml"), { name: "ENOTFOUND", cluster: false, table: false }],
  ] as const) {
    const start = performance.now();
    act();
    await expect.poll(seen, { timeout: 2_000, interval: 10 }).toEqual(wanted);
    took[what] = Math.round(performance.now() - start);
  }
  expect(Math.max(...Object.values(took))).toBeLessThan(2_000);
});

test("a client that stays while the control plane is started again is sent only what changed meanwhile", async () => {
  const at = withFiles({ "entry.yaml": entry({ host, vip: "240.0.0.2" }) });
  const before = await running(at);
  const port = before.ports.plaintext!;
  const proxy = proxyOn({ ...plaintext(before), scope: testScope() });
  await expect.poll(() => [...proxy.names(typeUrls.names)], patient).toEqual([host]);
  const held = proxy.names(typeUrls.cluster).size;
  await before.scope.close();
  proxy.changes.length = 0;
  writeFileSync(join(at.config, "second.yaml"), entry({ host: "second.bar.global", vip: "240.0.0.4" }));
  await running(at, { plaintext: { ip: loopback, port } });
  await expect
    .poll(() => [...proxy.names(typeUrls.names)], { timeout: 10_000, interval: 20 })
    .toContain("second.bar.global");
  const updated = proxy.changes
    .filter(({ typeUrl }) => typeUrl === typeUrls.cluster)
    .flatMap((change) => change.updated);
  expect(updated.map(({ name }) => name)).toEqual(["outbound|8000||second.bar.global"]);
  expect(proxy.changes.flatMap(({ removed }) => removed)).toEqual([]);
  expect(proxy.names(typeUrls.cluster).size).toBe(held + 1);
});
