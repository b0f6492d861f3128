import { connect } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { Client } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import { Cell, Failure, Metrics, Scope, silentLogger, systemClock, until } from "../base/index.ts";
import { type Node, NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { AggregatedDiscoveryService } from "../proto/gen/envoy/service/discovery/v3/ads_pb.js";
import {
  DeltaDiscoveryRequestSchema,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
} from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { methodDefinition, type Snapshot, type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";
import { testAuthority } from "../testing/index.ts";
import { parseSpiffeId } from "../values/index.ts";
import { type AdsClient, type AdsClientDeps, startAdsClient } from "./client.ts";
import type { Change } from "./client-state.ts";
import { openChannel } from "./grpc/channel.ts";
import type { ClientSecurity, ServerSecurity } from "./grpc/credentials.ts";
import { startGrpcServer } from "./grpc/server.ts";
import { receiptState } from "./receipts.ts";
import { type AdsLimits, type AdsServer, type AdsServerDeps, createAdsServer } from "./server.ts";
import { writeDeltaRequest } from "./wire.ts";

let scope = new Scope();
afterEach(async () => {
  await scope.close();
  scope = new Scope();
});

function resource(name: string, version = "1"): Versioned {
  const origins = [{ cluster: "c1", kind: "ServiceEntry", namespace: "foo", name }];
  return { name, version, bytes: Buffer.from(`${name}@${version}`), origins };
}

const snapshotOf = (content: Partial<Record<TypeUrl, readonly Versioned[]>>): Snapshot =>
  new Map(
    Object.entries(content).map(([typeUrl, resources]) => [
      typeUrl as TypeUrl,
      new Map(resources.map((one) => [one.name, one])),
    ]),
  );

const node = (id = "sidecar~10.0.0.1~sleep.foo~foo.svc.cluster.local"): Node => create(NodeSchema, { id });

async function serve(
  snapshot: Cell<Snapshot>,
  options: {
    readonly security?: ServerSecurity;
    readonly requireCertificate?: boolean;
    readonly authenticate?: AdsServerDeps["authenticate"];
    readonly limits?: Partial<AdsLimits>;
    readonly port?: number;
    readonly within?: Scope;
  } = {},
): Promise<{ readonly ads: AdsServer; readonly port: number; readonly target: string }> {
  const within = options.within ?? scope;
  const ads = createAdsServer(
    {
      authenticate: options.authenticate ?? (() => ({ ok: true })),
      watch: () => snapshot,
      clock: systemClock,
      log: silentLogger,
      metrics: new Metrics(),
      ...(options.limits ? { limits: options.limits } : {}),
    },
    within,
  );
  const { port } = await startGrpcServer(
    {
      listen: { ip: "127.0.0.1", port: options.port ?? 0 },
      security: options.security ?? { kind: "plaintext" },
      services: [ads.serve({ requireCertificate: options.requireCertificate ?? false })],
      log: silentLogger,
    },
    within,
  );
  return { ads, port, target: `127.0.0.1:${port}` };
}

/** A client that keeps what it was told as text by type and name. */
function startProxy(target: string, options: Partial<AdsClientDeps> = {}) {
  const running = new Cell<ReadonlyMap<string, string>>(new Map());
  const order: string[] = [];
  const apply = (change: Change) => {
    order.push(short(change.typeUrl));
    const next = new Map(running.value);
    for (const { name, bytes } of change.updated) {
      if (!Buffer.from(bytes).toString().includes("bad"))
        next.set(`${short(change.typeUrl)}/${name}`, Buffer.from(bytes).toString());
    }
    for (const name of change.removed) next.delete(`${short(change.typeUrl)}/${name}`);
    if (change.typeUrl === typeUrls.cluster) {
      const names = new Set([...next.keys()].filter((key) => key.startsWith("Cluster/")).map((key) => key.slice(8)));
      client.want(typeUrls.endpoints, { all: false, names });
      for (const key of next.keys())
        if (key.startsWith("ClusterLoadAssignment/") && !names.has(key.slice(22))) next.delete(key);
    }
    running.set(next);
    return change.updated
      .filter(({ bytes }) => Buffer.from(bytes).toString().includes("bad"))
      .map(({ name }) => ({ name, reason: "not a good one" }));
  };
  const client: AdsClient = startAdsClient(
    {
      target,
      security: { kind: "plaintext" },
      node: () => node(),
      interests: new Map([
        [typeUrls.cluster, { all: true, names: new Set() }],
        [typeUrls.listener, { all: true, names: new Set() }],
      ]),
      apply,
      clock: systemClock,
      random: () => 0.5,
      log: silentLogger,
      backoff: { firstMs: 20, maxMs: 200 },
      ...options,
    },
    scope,
  );
  return { client, running, order };
}

const short = (typeUrl: string) => typeUrl.slice(typeUrl.lastIndexOf(".") + 1);

const content = (version = "1") =>
  snapshotOf({
    [typeUrls.cluster]: [resource("httpbin", version), resource("sleep")],
    [typeUrls.endpoints]: [resource("httpbin", version), resource("sleep")],
    [typeUrls.listener]: [resource("0.0.0.0_8000", version)],
  });

describe("our client at our server", () => {
  test("that begins with what it held in an earlier run is told only the differences, and what is gone", async () => {
    const { target } = await serve(new Cell(content("2")));
    const changes: Change[] = [];
    const all = { all: true, names: new Set<string>() };
    const held = new Map([
      [typeUrls.cluster, new Map(Object.entries({ httpbin: "1", sleep: "1", gone: "1" }))],
      [typeUrls.endpoints, new Map(Object.entries({ sleep: "1", gone: "1", unwanted: "1" }))],
      [typeUrls.listener, new Map([["0.0.0.0_8000", "2"]])],
    ]);
    const client = startAdsClient(
      {
        target,
        security: { kind: "plaintext" },
        node: () => node(),
        interests: new Map([
          [typeUrls.cluster, all],
          [typeUrls.listener, all],
          [typeUrls.endpoints, { all: false, names: new Set(["sleep", "httpbin", "gone"]) }],
        ]),
        held,
        apply(change) {
          changes.push(change);
          return [];
        },
        clock: systemClock,
        random: () => 0.5,
        log: silentLogger,
      },
      scope,
    );
    expect(client.holds.held(typeUrls.endpoints)).toEqual(new Map(Object.entries({ sleep: "1", gone: "1" })));
    const told = (of: "updated" | "removed") =>
      changes
        .flatMap((change) =>
          change[of].map((each) => `${short(change.typeUrl)}/${typeof each === "string" ? each : each.name}`),
        )
        .sort();
    await expect.poll(() => told("removed"), { interval: 20 }).toEqual(["Cluster/gone", "ClusterLoadAssignment/gone"]);
    expect(told("updated")).toEqual(["Cluster/httpbin", "ClusterLoadAssignment/httpbin"]);
    // A type of which nothing changed is confirmed all the same.
    expect(changes.some(({ typeUrl }) => typeUrl === typeUrls.listener)).toBe(true);
    await expect
      .poll(() => client.holds.held(typeUrls.cluster), { interval: 20 })
      .toEqual(new Map(Object.entries({ httpbin: "2", sleep: "1" })));
  });

  test("stops when it is told to, while its server goes on", async () => {
    const elsewhere = new Scope();
    const { ads, target } = await serve(new Cell(content()), { within: elsewhere });
    const { client, running } = startProxy(target);
    await until(running, (now) => now.size === 5);
    await scope.close();
    expect(client.state.value).toEqual({ phase: "stopped" });
    await expect.poll(() => ads.connections()).toEqual([]);
    await elsewhere.close();
  });

  test("gets everything in an order in which nothing points at what is not there, then only changes", async () => {
    const snapshot = new Cell(content());
    const { ads, target } = await serve(snapshot);
    const { running, order } = startProxy(target);
    await until(running, (now) => now.size === 5);
    expect(order).toEqual(["Cluster", "ClusterLoadAssignment", "Listener"]);
    snapshot.set(content("2"));
    await until(running, (now) => now.get("Listener/0.0.0.0_8000") === "0.0.0.0_8000@2");
    expect(order.slice(3)).toEqual(["Cluster", "ClusterLoadAssignment", "Listener"]);
    expect(running.value.get("ClusterLoadAssignment/httpbin")).toBe("httpbin@2");
    const sent = ads.receipts.of(node().id).get(typeUrls.cluster)?.sent.resources;
    expect(sent).toBe(1);
    snapshot.set(snapshotOf({ [typeUrls.cluster]: [resource("sleep")] }));
    await until(running, (now) => now.size === 1);
  });

  test("keeps its last good one of what it refuses, and the server knows which, why and whose it is", async () => {
    const snapshot = new Cell(content());
    const { ads, target } = await serve(snapshot);
    const { running } = startProxy(target);
    await until(running, (now) => now.size === 5);
    const refused = new Promise<void>((resolve) => {
      const stop = ads.receipts.subscribe((receipt) => {
        if (receipt.refused.size === 0) return;
        stop();
        resolve();
      });
    });
    const bad = { ...resource("httpbin", "9"), bytes: Buffer.from("bad") };
    snapshot.set(
      snapshotOf({
        [typeUrls.cluster]: [bad, resource("sleep", "2")],
        [typeUrls.listener]: [resource("0.0.0.0_8000", "2")],
      }),
    );
    await refused;
    await until(running, (now) => now.get("Listener/0.0.0.0_8000") === "0.0.0.0_8000@2");
    expect(running.value.get("Cluster/httpbin")).toBe("httpbin@1");
    expect(running.value.get("Cluster/sleep")).toBe("sleep@2");
    const receipt = ads.receipts.of(node().id).get(typeUrls.cluster)!;
    expect(receiptState(receipt)).toBe("refusing");
    expect([...receipt.refused.values()]).toMatchObject([
      { name: "httpbin", version: "9", reason: "httpbin: not a good one", origins: [{ name: "httpbin" }] },
    ]);
    const nonce = receipt.sent.nonce;
    snapshot.set(
      snapshotOf({ [typeUrls.cluster]: [resource("httpbin", "10"), resource("sleep", "2")], [typeUrls.listener]: [] }),
    );
    await until(running, (now) => now.get("Cluster/httpbin") === "httpbin@10");
    await until(running, (now) => !now.has("Listener/0.0.0.0_8000"));
    const after = ads.receipts.of(node().id).get(typeUrls.cluster)!;
    expect(Number(after.sent.nonce)).toBeGreaterThan(Number(nonce));
    expect(receiptState(after)).toBe("synced");
  });

  test("runs on while the server is away, comes back by itself, and is then sent only what differs", async () => {
    const snapshot = new Cell(content());
    const first = new Scope();
    const { port, target } = await serve(snapshot, { within: first });
    const { client, running, order } = startProxy(target);
    await until(running, (now) => now.size === 5);
    await first.close();
    await until(client.state, ({ phase }) => phase === "waiting");
    expect(running.value.size).toBe(5);
    snapshot.set(
      snapshotOf({
        [typeUrls.cluster]: [resource("sleep")],
        [typeUrls.endpoints]: [resource("sleep")],
        [typeUrls.listener]: [resource("0.0.0.0_8000", "1")],
      }),
    );
    const seen = order.length;
    const { ads } = await serve(snapshot, { port });
    await until(running, (now) => now.size === 3);
    expect(client.state.value.phase).toBe("connected");
    expect(running.value.get("Listener/0.0.0.0_8000")).toBe("0.0.0.0_8000@1");
    // An empty answer for what is asked for whole, and the removal: no resource crosses again.
    expect(order.length - seen).toBeLessThanOrEqual(4);
    expect(ads.receipts.all().map(({ sent }) => sent.resources)).not.toContain(1);
  });

  test("is in step with a hundred changes made faster than it answers", async () => {
    const snapshot = new Cell(content());
    const { ads, target } = await serve(snapshot);
    const { running, order } = startProxy(target);
    await until(running, (now) => now.size === 5);
    for (let version = 2; version <= 100; version++) snapshot.set(content(String(version)));
    await until(running, (now) => now.get("Listener/0.0.0.0_8000") === "0.0.0.0_8000@100");
    expect(order.length).toBeLessThan(12);
    expect(ads.receipts.all().every(({ sent }) => Number(sent.nonce) < 12)).toBe(true);
  });
});

describe("who may ask", () => {
  const first = async (
    target: string,
    options: {
      readonly security?: ClientSecurity;
      readonly node?: Node | undefined;
      readonly names?: readonly string[];
      readonly typeUrl?: string;
    } = {},
  ) => {
    const stream = openChannel({ target, security: options.security ?? { kind: "plaintext" } }, scope).bidi(
      AggregatedDiscoveryService.method.deltaAggregatedResources,
    );
    const request = writeDeltaRequest({ typeUrl: options.typeUrl ?? typeUrls.cluster, subscribe: options.names ?? [] });
    const sent = "node" in options ? options.node : node();
    stream.send({ ...request, ...(sent ? { node: sent } : {}) }).catch(() => {});
    for await (const response of stream.responses) return response;
    throw new Failure("test/ended", "the stream ended");
  };
  const failureOf = (promise: Promise<unknown>): Promise<Failure> =>
    promise.then(
      () => expect.fail("it was answered"),
      (failure) => failure,
    );

  test("without a certificate where one is required: UNAUTHENTICATED, in words", async () => {
    const authority = await testAuthority();
    const serverId = parseSpiffeId("spiffe://cluster.local/ns/isthmus-system/sa/isthmusd")!;
    const security: ServerSecurity = {
      kind: "tls",
      material: new Cell(await authority.issue({ uris: [serverId] })),
      clientCertificate: "optional",
    };
    const authenticate: AdsServerDeps["authenticate"] = ({ certificate }) =>
      certificate?.spiffeIds[0] === "spiffe://cluster.local/ns/foo/sa/sleep"
        ? { ok: true }
        : { ok: false, reason: `you are ${certificate?.spiffeIds}` };
    const { target } = await serve(new Cell(content()), { security, requireCertificate: true, authenticate });
    const as = (material: Extract<ClientSecurity, { kind: "tls" }>["material"]["value"]): ClientSecurity => ({
      kind: "tls",
      material: new Cell(material),
      expect: { kind: "spiffe", ids: [serverId], serverName: "isthmusd" },
    });
    const nobody = await failureOf(first(target, { security: as({ rootsPem: authority.rootPem }) }));
    expect(nobody.code).toBe("grpc/unauthenticated");
    expect(nobody.message).toContain("client certificate");
    const other = await failureOf(
      first(target, { security: as(await authority.issue({ uris: ["spiffe://cluster.local/ns/bar/sa/x"] })) }),
    );
    expect(other.code).toBe("grpc/permission-denied");
    expect(other.message).toContain("ns/bar/sa/x");
    const sleep = as(await authority.issue({ uris: ["spiffe://cluster.local/ns/foo/sa/sleep"] }));
    expect((await first(target, { security: sleep })).resources).toHaveLength(2);
  });

  const hostile = [
    { it: "no node", options: { node: undefined }, code: "grpc/invalid-argument" },
    { it: "an empty node id", options: { node: node("") }, code: "grpc/invalid-argument" },
    { it: "a node id of 10 kB", options: { node: node("x".repeat(10_000)) }, code: "grpc/invalid-argument" },
    {
      it: "a node of 1 MB",
      options: { node: create(NodeSchema, { id: "x", userAgentName: "v".repeat(1 << 20) }) },
      code: "grpc/invalid-argument",
    },
    {
      it: "a hundred thousand names",
      options: { names: Array.from({ length: 100_000 }, (_, i) => `n${i}`) },
      code: "grpc/resource-exhausted",
    },
    { it: "a request of 50 MB", options: { names: ["x".repeat(50 << 20)] }, code: "grpc/resource-exhausted" },
  ];
  for (const { it, options, code } of hostile) {
    test(`${it} is refused, and others are served on`, async () => {
      const { ads, target } = await serve(new Cell(content()));
      expect((await failureOf(first(target, options))).code).toBe(code);
      expect((await first(target)).resources).toHaveLength(2);
      expect(ads.connections().length).toBeLessThanOrEqual(1);
    });
  }

  test("a type that nobody serves is answered as empty, and the stream goes on", async () => {
    const { target } = await serve(new Cell(content()));
    const response = await first(target, { typeUrl: "type.googleapis.com/x.Unknown", names: ["a", "b"] });
    expect(response.removedResources).toEqual(["a", "b"]);
  });

  test("a stream that says nothing is ended, and one too many of a node ends the oldest", async () => {
    const { ads, target } = await serve(new Cell(content()), { limits: { firstRequestMs: 30, maxStreamsPerNode: 2 } });
    const open = () => {
      const stream = openChannel({ target, security: { kind: "plaintext" } }, scope).bidi(
        AggregatedDiscoveryService.method.deltaAggregatedResources,
      );
      const responses = stream.responses[Symbol.asyncIterator]();
      return { stream, responses };
    };
    expect((await failureOf(open().responses.next())).code).toBe("grpc/deadline-exceeded");
    const streams: ReturnType<typeof open>[] = [];
    for (let i = 0; i < 3; i++) {
      const one = open();
      streams.push(one);
      await one.stream.send({ ...writeDeltaRequest({ typeUrl: typeUrls.cluster }), node: node() });
      await one.responses.next();
    }
    expect((await failureOf(streams[0]!.responses.next())).code).toBe("grpc/aborted");
    expect(ads.connections()).toHaveLength(2);
    expect(ads.receipts.proxies()).toEqual([node().id]);
  });
});

test("a client that does not read is cut off, and holds up nobody", async () => {
  const big = new Cell(snapshotOf({ [typeUrls.cluster]: [{ ...resource("big"), bytes: Buffer.alloc(8 << 20) }] }));
  const { ads, target } = await serve(big, { limits: { sendMs: 200, maxPushes: 1 } });
  const session = connect(`http://${target}`);
  scope.defer(() => session.destroy());
  const lazy = session.request({
    ":method": "POST",
    ":path": "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    "content-type": "application/grpc",
    te: "trailers",
  });
  const request = toBinary(DeltaDiscoveryRequestSchema, {
    ...writeDeltaRequest({ typeUrl: typeUrls.cluster }),
    node: node("lazy"),
  });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(request.length, 1);
  lazy.write(Buffer.concat([head, request]));
  const gone = new Promise<void>((resolve) => {
    const stop = ads.receipts.subscribe(() => {
      if (ads.receipts.proxies().includes("lazy")) return;
      stop();
      resolve();
    });
  });
  await gone;
  const { running } = startProxy(target);
  await until(running, (now) => now.size === 1);
});

describe("state of the world, spoken by the library itself", () => {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(
    AggregatedDiscoveryService.method.streamAggregatedResources,
  );

  function talk(target: string) {
    const client = new Client(target, grpc.credentials.createInsecure());
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    scope.defer(() => client.close());
    stream.on("error", () => {});
    const iterator = stream.iterator({ destroyOnReturn: false });
    return {
      ask: (typeUrl: string, names: string[], after?: DiscoveryResponse, error?: string) =>
        void stream.write(
          create(DiscoveryRequestSchema, {
            node: after ? undefined : node(),
            typeUrl,
            resourceNames: names,
            responseNonce: after?.nonce ?? "",
            versionInfo: after?.versionInfo ?? "",
            ...(error ? { errorDetail: { code: 3, message: error } } : {}),
          } as never),
        ),
      next: async (): Promise<{
        readonly type: string;
        readonly got: readonly string[];
        readonly response: DiscoveryResponse;
      }> => {
        const { value } = await iterator.next();
        return {
          type: short(value.typeUrl),
          got: value.resources.map((any: { value: Uint8Array }) => Buffer.from(any.value).toString()),
          response: value,
        };
      },
    };
  }

  test("whole types come whole, named ones by name, a refusal is kept, what is gone goes last", async () => {
    const snapshot = new Cell(content());
    const { ads, target } = await serve(snapshot);
    const { ask, next } = talk(target);
    ask(typeUrls.cluster, []);
    const clusters = await next();
    expect(clusters.got).toEqual(["httpbin@1", "sleep@1"]);
    ask(typeUrls.cluster, [], clusters.response);
    ask(typeUrls.endpoints, ["httpbin", "nobody"]);
    const endpoints = await next();
    expect(endpoints.got).toEqual(["httpbin@1"]);
    ask(typeUrls.endpoints, ["httpbin", "nobody"], endpoints.response);
    ask(typeUrls.endpoints, ["httpbin", "nobody", "sleep"], endpoints.response);
    const added = await next();
    expect(added.got).toEqual(["sleep@1"]);
    ask(typeUrls.endpoints, ["httpbin", "nobody", "sleep"], added.response);

    snapshot.set(
      snapshotOf({ [typeUrls.cluster]: [resource("sleep", "2")], [typeUrls.endpoints]: [resource("sleep")] }),
    );
    const made = await next();
    expect(made).toMatchObject({ type: "Cluster", got: ["sleep@2", "httpbin@1"] });
    ask(typeUrls.cluster, [], made.response, "Error adding/updating cluster(s) sleep: no");
    // Its endpoints go along with the cluster that changed, although they did not.
    const along = await next();
    expect(along).toMatchObject({ type: "ClusterLoadAssignment", got: ["sleep@1"] });
    ask(typeUrls.endpoints, ["httpbin", "nobody", "sleep"], along.response);
    const broken = await next();
    expect(broken).toMatchObject({ type: "Cluster", got: ["sleep@2"] });
    expect([...ads.receipts.of(node().id).get(typeUrls.cluster)!.refused.keys()]).toEqual(["sleep"]);
    // An answer to a response that is not the last one changes nothing.
    ask(typeUrls.cluster, ["other"], clusters.response);
    ask(typeUrls.cluster, [], broken.response);
    ask(typeUrls.listener, []);
    expect(await next()).toMatchObject({ type: "Listener", got: [] });
  });
});
