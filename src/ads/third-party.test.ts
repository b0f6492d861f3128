import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
import { afterEach, expect, test } from "vitest";
import { Cell, Metrics, Scope, silentLogger, systemClock } from "../base/index.ts";
import { Cluster_DiscoveryType, ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../proto/gen/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { pack, type Snapshot, type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";
import { startGrpcServer } from "./grpc/server.ts";
import { createAdsServer } from "./server.ts";

// The client is gRPC's own, unmodified: it resolves a name by asking our server for four resources, and calls.

const scope = new Scope();
afterEach(() => scope.close());

const authority = "httpbin.bar.global:8000";
const cluster = "outbound|8000||httpbin.bar.global";

function versioned<D extends DescMessage>(name: string, schema: D, message: MessageInitShape<D>): Versioned {
  const bytes = toBinary(schema, create(schema, message));
  return { name, version: Buffer.from(bytes).toString("hex"), bytes, origins: [] };
}

function snapshotFor(port: number): Snapshot {
  const ads = { configSourceSpecifier: { case: "ads" as const, value: {} } };
  const listener = versioned(authority, ListenerSchema, {
    name: authority,
    apiListener: {
      apiListener: pack(
        HttpConnectionManagerSchema,
        create(HttpConnectionManagerSchema, {
          routeSpecifier: { case: "rds", value: { configSource: ads, routeConfigName: "8000" } },
          httpFilters: [
            {
              name: "envoy.filters.http.router",
              configType: { case: "typedConfig", value: pack(RouterSchema, create(RouterSchema)) },
            },
          ],
        }),
      ),
    },
  });
  const route = versioned("8000", RouteConfigurationSchema, {
    name: "8000",
    virtualHosts: [
      {
        name: authority,
        domains: [authority, "httpbin.bar.global"],
        routes: [
          {
            match: { pathSpecifier: { case: "prefix", value: "" } },
            action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: cluster } } },
          },
        ],
      },
    ],
  });
  const upstream = versioned(cluster, ClusterSchema, {
    name: cluster,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: ads },
  });
  const endpoints = versioned(cluster, ClusterLoadAssignmentSchema, {
    clusterName: cluster,
    endpoints: [
      {
        locality: { region: "r" },
        loadBalancingWeight: 1,
        lbEndpoints: [
          {
            hostIdentifier: {
              case: "endpoint",
              value: {
                address: {
                  address: {
                    case: "socketAddress",
                    value: { address: "127.0.0.1", portSpecifier: { case: "portValue", value: port } },
                  },
                },
              },
            },
          },
        ],
      },
    ],
  });
  const of = (typeUrl: TypeUrl, one: Versioned) => [typeUrl, new Map([[one.name, one]])] as const;
  return new Map([
    of(typeUrls.listener, listener),
    of(typeUrls.route, route),
    of(typeUrls.cluster, upstream),
    of(typeUrls.endpoints, endpoints),
  ]);
}

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
  scope.defer(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
}

test("gRPC's own xDS client resolves a name against our server, calls it, and follows a change", async () => {
  const snapshot = new Cell(snapshotFor(await startEcho("first")));
  const ads = createAdsServer(
    {
      authenticate: () => ({ ok: true }),
      watch: () => snapshot,
      clock: systemClock,
      log: silentLogger,
      metrics: new Metrics(),
    },
    scope,
  );
  const { port } = await startGrpcServer(
    {
      listen: { ip: "127.0.0.1", port: 0 },
      security: { kind: "plaintext" },
      services: [ads.serve({ requireCertificate: false })],
      log: silentLogger,
    },
    scope,
  );
  register();
  const bootstrap = {
    xds_servers: [
      { server_uri: `127.0.0.1:${port}`, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] },
    ],
    node: { id: "sidecar~10.0.0.1~client.foo~foo.svc.cluster.local", cluster: "client", locality: {} },
  };
  const client = new Client(`xds:///${authority}`, credentials.createInsecure(), {
    "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config": JSON.stringify(bootstrap),
  });
  scope.defer(() => client.close());
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
  const taken = new Promise<void>((resolve) => {
    const stop = ads.receipts.subscribe(({ typeUrl, sent, acked }) => {
      if (typeUrl !== typeUrls.endpoints || sent.nonce !== acked?.nonce) return;
      stop();
      resolve();
    });
  });
  snapshot.set(snapshotFor(await startEcho("second")));
  await taken;
  await expect.poll(say, { timeout: 5_000, interval: 20 }).toBe("second");
  expect(ads.receipts.all().every(({ nacked }) => nacked === undefined)).toBe(true);
});
