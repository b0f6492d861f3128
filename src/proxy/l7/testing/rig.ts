import { setMaxListeners } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { type Clock, Failure, Metrics, Scope, silentLogger, systemClock } from "../../../base/index.ts";
import { RouteConfigurationSchema } from "../../../proto/gen/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "../../../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "../../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { pack } from "../../../proto/index.ts";
import type { Ip } from "../../../values/index.ts";
import { type HttpManager, readHttpManager } from "../../config/http-manager.ts";
import { formatRefusals, Place } from "../../config/reading.ts";
import type { RouteTable } from "../../config/route.ts";
import { readRouteConfiguration } from "../../config/route-table.ts";
import type { AccessRecord } from "../../l4/access-log.ts";
import type { Connection } from "../../l4/connection.ts";
import type { Endpoint, Upstream, Upstreams } from "../../upstream/upstream.ts";
import { type HttpProxy, type HttpService, serveHttp, startHttpProxy } from "../serve-http.ts";

/** A manager from what a listener would say, plus a router. Throws on a refusal. */
export function managerOf(given: MessageInitShape<typeof HttpConnectionManagerSchema> = {}): HttpManager {
  const place = new Place();
  const message = create(HttpConnectionManagerSchema, {
    routeSpecifier: { case: "rds", value: { routeConfigName: "test" } },
    httpFilters: [
      { name: "router", configType: { case: "typedConfig", value: pack(RouterSchema, create(RouterSchema, {})) } },
    ],
    upgradeConfigs: [{ upgradeType: "websocket" }],
    ...given,
  });
  const manager = readHttpManager(message, place);
  if (!manager || place.refusals.length > 0) throw new Error(formatRefusals(place.refusals));
  return manager;
}

/** A route table. Throws on a refusal. */
export function tableOf(given: MessageInitShape<typeof RouteConfigurationSchema>): RouteTable {
  const place = new Place();
  const table = readRouteConfiguration(create(RouteConfigurationSchema, given), place);
  if (!table || place.refusals.length > 0) throw new Error(formatRefusals(place.refusals));
  return table;
}

/** Everything to one cluster. */
export function everythingTo(cluster: string): RouteTable {
  return tableOf({
    name: "test",
    virtualHosts: [
      {
        name: "all",
        domains: ["*"],
        routes: [
          {
            name: "default",
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            action: {
              case: "route",
              value: { clusterSpecifier: { case: "cluster", value: cluster }, timeout: { seconds: 0n, nanos: 0 } },
            },
          },
        ],
      },
    ],
  });
}

/** A cluster of loopback ports, taken in turn. */
export class TestUpstream implements Upstream {
  readonly name: string;
  httpProtocol: Upstream["httpProtocol"] = "http1";
  maxRequestsPerConnection: number | undefined;
  idleTimeoutMs = 60_000;
  maxDurationMs: number | undefined;
  announces = false;
  limits = {
    maxConnections: 1024,
    maxPendingRequests: 1024,
    maxRequests: 1024,
    maxRetries: 3,
    retryBudget: undefined as Upstream["limits"]["retryBudget"],
  };
  endpoints: Endpoint[];
  connects = 0;
  readonly outcomes: string[] = [];
  readonly open = new Set<Socket>();
  readonly controller = new AbortController();
  readonly gone = this.controller.signal;
  #next = 0;
  #removed = new Set<(keys: ReadonlySet<string>) => void>();

  constructor(name: string, ports: readonly number[]) {
    this.name = name;
    this.endpoints = ports.map((port) => ({
      address: { ip: "127.0.0.1" as Ip, port },
      key: `127.0.0.1:${port}`,
      weight: 1,
      priority: 0,
      metadata: {},
    }));
  }

  pick: Upstream["pick"] = ({ tried }) => {
    const fresh = this.endpoints.filter(({ key }) => !tried?.has(key));
    const from = fresh.length > 0 ? fresh : this.endpoints;
    const endpoint = from[this.#next++ % from.length];
    return endpoint ? { kind: "endpoint", endpoint } : { kind: "none", flag: "UH", reason: "it has no endpoints" };
  };

  connect: Upstream["connect"] = (endpoint) => {
    this.connects++;
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: endpoint.address.ip,
        port: endpoint.address.port,
        noDelay: true,
        allowHalfOpen: true,
      });
      const onError = (error: Error) =>
        reject(new Failure("upstream/connect-refused", `connection refused`, { cause: error }));
      socket.once("error", onError);
      socket.once("connect", () => {
        socket.off("error", onError);
        this.open.add(socket);
        socket.once("close", () => this.open.delete(socket));
        resolve({
          socket,
          endpoint,
          local: { ip: "127.0.0.1" as Ip, port: socket.localPort ?? 0 },
          tls: undefined,
        });
      });
    });
  };

  begin: Upstream["begin"] = () => {
    const index = this.outcomes.push("running") - 1;
    return (outcome) => {
      if (this.outcomes[index] !== "running") throw new Error("a request ended twice");
      this.outcomes[index] = outcome;
    };
  };

  onEndpointsRemoved(notify: (keys: ReadonlySet<string>) => void): () => void {
    this.#removed.add(notify);
    return () => this.#removed.delete(notify);
  }

  remove(keys: ReadonlySet<string>): void {
    this.endpoints = this.endpoints.filter(({ key }) => !keys.has(key));
    for (const notify of this.#removed) notify(keys);
  }
}

/** A proxy on a loopback port, with everything that a test may turn. */
export interface Rig {
  readonly port: number;
  readonly clusters: Map<string, Upstream>;
  readonly records: AccessRecord[];
  readonly http: HttpProxy;
  readonly metrics: Metrics;
  readonly draining: AbortController;
  /** Sockets that clients opened and that are still there. */
  readonly sockets: Set<Socket>;
  table: RouteTable | undefined;
  close(): Promise<void>;
}

export async function startRig(
  options: {
    readonly port?: number;
    readonly table?: RouteTable;
    readonly manager?: HttpManager;
    readonly clusters?: readonly Upstream[];
    readonly clock?: Clock;
    readonly random?: () => number;
    readonly connection?: Partial<Connection>;
    readonly service?: Partial<HttpService>;
  } = {},
): Promise<Rig> {
  const scope = new Scope();
  const clusters = new Map((options.clusters ?? []).map((cluster) => [cluster.name, cluster]));
  const upstreams: Upstreams = { get: (name) => clusters.get(name) };
  const metrics = new Metrics();
  const http = startHttpProxy(
    {
      clock: options.clock ?? systemClock,
      random: options.random ?? (() => 0.5),
      log: silentLogger,
      metrics,
      upstreams,
    },
    scope,
  );
  const records: AccessRecord[] = [];
  const draining = new AbortController();
  const ending = new AbortController();
  // Every connection listens to both.
  setMaxListeners(0, draining.signal, ending.signal);
  const sockets = new Set<Socket>();
  let ids = 0;
  const served = new Set<Promise<void>>();
  const rig = { port: 0, clusters, records, http, metrics, draining, sockets, table: options.table } as Rig & {
    port: number;
  };
  const service: HttpService = {
    http,
    manager: options.manager ?? managerOf(),
    routes: (name) => (name === "test" ? rig.table : undefined),
    accessLog: { write: (record) => records.push(record) },
    ...options.service,
  };
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: false }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    const connection: Connection = {
      id: ids++,
      socket,
      remote: { ip: "127.0.0.1" as Ip, port: socket.remotePort ?? 0 },
      destination: { ip: "127.0.0.1" as Ip, port: rig.port },
      listener: "test",
      tls: undefined,
      sni: undefined,
      startedMs: 0,
      draining: draining.signal,
      signal: ending.signal,
      ...options.connection,
    };
    const running = serveHttp(connection, service).finally(() => served.delete(running));
    served.add(running);
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  rig.port = (server.address() as { port: number }).port;
  rig.close = async () => {
    ending.abort();
    await new Promise((resolve) => server.close(resolve));
    await Promise.all(served);
    await scope.close();
  };
  return rig;
}

/** Sends bytes, gives all that came back when the far end closed or `until` was seen. */
export function talk(
  port: number,
  bytes: string | Buffer | readonly (string | Buffer)[],
  options: { readonly until?: string | RegExp; readonly end?: boolean; readonly timeoutMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    let got = "";
    const timer = systemClock.after(options.timeoutMs ?? 3000, () => {
      socket.destroy();
      reject(new Error(`nothing more came after ${JSON.stringify(got.slice(0, 500))}`));
    });
    const finish = () => {
      timer.cancel();
      socket.destroy();
      resolve(got);
    };
    socket.on("data", (chunk: Buffer) => {
      got += chunk.toString("latin1");
      const { until } = options;
      if (until !== undefined && (typeof until === "string" ? got.includes(until) : until.test(got))) finish();
    });
    socket.on("end", finish);
    socket.on("error", finish);
    const parts = Array.isArray(bytes) ? bytes : [bytes as string | Buffer];
    (async () => {
      for (const part of parts) {
        await new Promise((written) => socket.write(part as string | Buffer, written));
        if (parts.length > 1) await new Promise((next) => setImmediate(next));
      }
      if (options.end) socket.end();
    })().catch(reject);
  });
}
