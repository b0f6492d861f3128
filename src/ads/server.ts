import { toBinary } from "@bufbuild/protobuf";
import { type Clock, type Failure, type Logger, type Metrics, type Scope, sleep } from "../base/index.ts";
import { type Node, NodeSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { AggregatedDiscoveryService } from "../proto/gen/envoy/service/discovery/v3/ads_pb.js";
import { SecretDiscoveryService } from "../proto/gen/envoy/service/secret/v3/sds_pb.js";
import { type Snapshot, typeUrls } from "../proto/index.ts";
import { type Caller, type Implementation, implement, type ServerStream } from "./grpc/server.ts";
import { grpcFailure, grpcStatusOf } from "./grpc/status.ts";
import { delta, type Protocol, secretsOf, sotw } from "./protocol.ts";
import { PushQueue } from "./push.ts";
import { Receipts } from "./receipts.ts";
import { Session, type SessionHeard } from "./session.ts";
import type { Ask } from "./subscription.ts";

export interface AdsLimits {
  /** Names asked for of one type, or held of it; 50,000. */
  readonly maxNames: number;
  /** Types on one stream, known or not; 32. */
  readonly maxTypes: number;
  /** Streams at once of one node id; the oldest gives way to a new one, since it may be dead and not know it; 4. */
  readonly maxStreamsPerNode: number;
  /** Streams at once, of all; 10,000. */
  readonly maxStreams: number;
  readonly maxNodeIdLength: number;
  /** The encoded node message; 256 KiB. */
  readonly maxNodeBytes: number;
  /** How long a stream may be open without its first request; 10 s. */
  readonly firstRequestMs: number;
  /** How long a client may leave a response unread; 30 s. */
  readonly sendMs: number;
  /** Proxies that are pushed to at once; 32. */
  readonly maxPushes: number;
}

const defaultLimits: AdsLimits = {
  maxNames: 50_000,
  maxTypes: 32,
  maxStreamsPerNode: 4,
  maxStreams: 10_000,
  maxNodeIdLength: 512,
  maxNodeBytes: 256 * 1024,
  firstRequestMs: 10_000,
  sendMs: 30_000,
  maxPushes: 32,
};

export type Admission = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** What a node should run. `value` is read when it is the node's turn, and may be made then. A `Cell<Snapshot>` is one. */
export interface SnapshotSource {
  readonly value: Snapshot;
  /** Calls `notify` at each later change. Returns how to stop. */
  subscribe(notify: () => void): () => void;
  /** For who makes only what is asked for: told of names before they are looked up; what it returns is waited for. */
  asked?(typeUrl: string, names: readonly string[]): Promise<void>;
}

export interface AdsServerDeps {
  /** Whether this caller may have the configuration of this node. A refusal is answered PERMISSION_DENIED. */
  authenticate(caller: Caller, node: Node): Admission | Promise<Admission>;
  /** What the node should run, now and later. The scope closes with the stream. Throw `grpcFailure` to refuse. */
  watch(node: Node, caller: Caller, scope: Scope): SnapshotSource;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly limits?: Partial<AdsLimits>;
}

/** One stream, for status pages. */
export interface AdsConnection {
  readonly nodeId: string;
  readonly address: string;
  readonly protocol: Ask["protocol"];
  readonly connectedAtMs: number;
  /** Types by URL: names asked for one by one, and the nonce that waits for its answer. */
  readonly types: ReadonlyMap<string, { readonly names: number; readonly outstanding: string | undefined }>;
  /** Nothing is left to say to it, and it has answered all that was said. */
  readonly settled: boolean;
}

export interface AdsServer {
  /**
   * The service, for a `startGrpcServer`; may be served on several. With `requireCertificate`, a caller that showed no
   * certificate which we believe is answered UNAUTHENTICATED.
   */
  serve(options: { readonly requireCertificate: boolean }): Implementation;
  /** The secrets of the snapshots alone, as the service that proxies ask for their keys. The transport proves who asks. */
  serveSecrets(): Implementation;
  readonly receipts: Receipts;
  connections(): readonly AdsConnection[];
  /**
   * Takes no new stream, and ends those that are open as unavailable, one after the other over so long: their proxies
   * come to other servers, and not all in one instant.
   */
  sendAway(overMs: number): Promise<void>;
}

/** Closing the scope ends every stream as unavailable. */
export function createAdsServer(deps: AdsServerDeps, scope: Scope): AdsServer {
  const { clock, log, metrics } = deps;
  const limits: AdsLimits = { ...defaultLimits, ...deps.limits };
  const queue = new PushQueue({ maxAtOnce: limits.maxPushes });
  const receipts = new Receipts();
  const streams = new Set<Connection>();
  const counts = adsMetrics(metrics);
  let leaving = false;

  async function serveStream<Request>(
    stream: ServerStream<Request, never>,
    protocol: Protocol<Request>,
    requireCertificate: boolean,
  ): Promise<void> {
    const { caller } = stream;
    if (requireCertificate && caller.certificate === undefined)
      throw grpcFailure("unauthenticated", "discovery needs a client certificate here, and none that we believe came", {
        hint: "present the workload's certificate over TLS, signed by the mesh's root",
      });
    if (leaving) throw goingAway();
    if (streams.size >= limits.maxStreams)
      throw grpcFailure("resource-exhausted", `${limits.maxStreams} streams are open already`);
    const requests = stream.requests[Symbol.asyncIterator]();
    const first = await within(requests.next(), limits.firstRequestMs, "no request came");
    if (first.done) return;
    const node = admissibleNode(protocol.node(first.value));
    const admission = await deps.authenticate(caller, node);
    if (!admission.ok) throw grpcFailure("permission-denied", admission.reason);

    const own = scope.child();
    const closed = (reason: unknown) =>
      void own.close().catch((err) => log.error({ err, reason }, "stream left a mess"));
    const onOver = () => closed(stream.signal.reason);
    stream.signal.addEventListener("abort", onOver, { once: true });
    let connection: Connection | undefined;
    let ended = false;
    try {
      const snapshot = deps.watch(node, caller, own);
      connection = openConnection({ stream, protocol, node, snapshot });
      own.defer(() => {
        if (!ended) stream.fail(goingAway());
      });
      makeRoom(node.id);
      streams.add(connection);
      counts.streams.set(streams.size);
      own.defer(snapshot.subscribe(() => queue.need(connection!)));
      log.info({ node: node.id, address: caller.address, protocol: protocol.name }, "proxy connected");
      let request: IteratorResult<Request> = first;
      for (; !request.done; request = await requests.next()) {
        const [typeUrl, ask] = [protocol.typeUrl(request.value), protocol.ask(request.value)];
        if (snapshot.asked) await snapshot.asked(typeUrl, ask.protocol === "delta" ? ask.subscribe : ask.names);
        if (hear(connection, typeUrl, ask)) queue.need(connection);
      }
    } finally {
      ended = true;
      stream.signal.removeEventListener("abort", onOver);
      if (connection && streams.delete(connection)) {
        queue.drop(connection);
        counts.streams.set(streams.size);
        if (![...streams].some(({ nodeId }) => nodeId === node.id)) receipts.forget(node.id);
        log.info({ node: node.id, address: caller.address }, "proxy disconnected");
      }
      closed(undefined);
    }
  }

  function openConnection<Request>(of: {
    readonly stream: ServerStream<Request, never>;
    readonly protocol: Protocol<Request>;
    readonly node: Node;
    readonly snapshot: SnapshotSource;
  }): Connection {
    const { stream, protocol, node, snapshot } = of;
    const session = new Session(protocol.name, limits);
    const sayAll = async () => {
      for (let say = session.next(snapshot.value); say; say = session.next(snapshot.value)) {
        const bytes = protocol.encode(say);
        receipts.sent({ proxy: node.id, typeUrl: say.typeUrl, atMs: clock.now() }, say, bytes.length);
        counts.pushes.inc({ type: typeLabel(say.typeUrl) });
        counts.bytes.inc({ type: typeLabel(say.typeUrl) }, bytes.length);
        await within(stream.send(bytes), limits.sendMs, "a response was not read");
      }
    };
    return {
      nodeId: node.id,
      address: stream.caller.address,
      protocol: protocol.name,
      connectedAtMs: clock.now(),
      session,
      fail: stream.fail,
      flush: () =>
        sayAll().catch((caught) => {
          if (grpcStatusOf(caught) === undefined) log.error({ err: caught, node: node.id }, "push failed");
          stream.fail(caught);
        }),
    };
  }

  /** Whether there may be something to say now. */
  function hear(connection: Connection, typeUrl: string, ask: Ask): boolean {
    const heard: SessionHeard = connection.session.hear(typeUrl, ask);
    const at = { proxy: connection.nodeId, typeUrl, atMs: clock.now() };
    switch (heard.kind) {
      case "excessive":
        throw grpcFailure("resource-exhausted", heard.reason);
      case "stale":
        counts.stale.inc({ type: typeLabel(typeUrl) });
        return ask.protocol === "delta";
      case "subscribed":
        if (typeLabel(typeUrl) === "unknown")
          log.warn({ node: connection.nodeId, typeUrl: typeUrl.slice(0, 200) }, "type asked for that is not served");
        return true;
      case "acked":
        receipts.acked(at, heard.response);
        return true;
      case "refused": {
        const blamed = receipts.refused(at, heard.response, heard.reason);
        counts.refusals.inc({ type: typeLabel(typeUrl) });
        log.warn(
          { node: connection.nodeId, typeUrl, reason: heard.reason, resources: blamed.map(({ name }) => name) },
          "proxy refused configuration",
        );
        return true;
      }
    }
  }

  /** A new stream of a node that has too many takes the place of the oldest. */
  function makeRoom(nodeId: string): void {
    const same = [...streams].filter((other) => other.nodeId === nodeId);
    if (same.length < limits.maxStreamsPerNode) return;
    same[0]!.fail(grpcFailure("aborted", `node "${nodeId}" opened more than ${limits.maxStreamsPerNode} streams`));
    streams.delete(same[0]!);
    queue.drop(same[0]!);
  }

  /** Rejects when it takes too long; what was waited for may still settle, and is left alone then. */
  function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = clock.after(
        ms,
        () => reject(grpcFailure("deadline-exceeded", `${what} within ${ms} ms`, { hint: "come again" })),
        { background: true },
      );
      promise.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  function admissibleNode(node: Node | undefined): Node {
    if (!node || node.id === "")
      throw grpcFailure("invalid-argument", "the first request of a stream must say which node it is of");
    if (node.id.length > limits.maxNodeIdLength)
      throw grpcFailure("invalid-argument", `the node id has ${node.id.length} characters, more than we take`);
    const size = toBinary(NodeSchema, node).length;
    if (size > limits.maxNodeBytes)
      throw grpcFailure("invalid-argument", `the node takes ${size} bytes, at most ${limits.maxNodeBytes} are read`);
    return node;
  }

  return {
    serve: ({ requireCertificate }) =>
      implement(AggregatedDiscoveryService, {
        streamAggregatedResources: (stream) => serveStream(stream as never, sotw, requireCertificate),
        deltaAggregatedResources: (stream) => serveStream(stream as never, delta, requireCertificate),
      }),
    serveSecrets: () =>
      implement(SecretDiscoveryService, {
        streamSecrets: (stream) => serveStream(stream as never, secretsOf(sotw), false),
        deltaSecrets: (stream) => serveStream(stream as never, secretsOf(delta), false),
      }),
    receipts,
    connections: () =>
      [...streams].map((connection) => {
        const { nodeId, address, protocol, connectedAtMs, session } = connection;
        const types = session.subscriptions();
        const answered = [...types.values()].every(({ outstanding }) => outstanding === undefined);
        // Who has asked for nothing yet has nothing of what there is.
        const settled = types.size > 0 && answered && !queue.has(connection);
        return { nodeId, address, protocol, connectedAtMs, types, settled };
      }),
    async sendAway(overMs) {
      leaving = true;
      const all = [...streams];
      for (const connection of all) {
        connection.fail(goingAway());
        await sleep(clock, overMs / all.length, scope.signal).catch(() => {}); // Closing ends the others at once.
      }
    },
  };
}

function goingAway(): Failure {
  return grpcFailure("unavailable", "the server stops", { hint: "come again" });
}

interface Connection {
  readonly nodeId: string;
  readonly address: string;
  readonly protocol: Ask["protocol"];
  readonly connectedAtMs: number;
  readonly session: Session;
  flush(): Promise<void>;
  /** Ends the stream with this failure. */
  fail(caught: unknown): void;
}

const typeLabels: ReadonlyMap<string, string> = new Map(Object.entries(typeUrls).map(([label, url]) => [url, label]));

/** A label from our own list: type URLs come from outside. */
function typeLabel(typeUrl: string): string {
  return typeLabels.get(typeUrl) ?? "unknown";
}

function adsMetrics(metrics: Metrics) {
  return {
    streams: metrics.gauge("isthmus_ads_streams", "Discovery streams that are open."),
    pushes: metrics.counter("isthmus_ads_pushes_total", "Responses sent to proxies.", ["type"]),
    bytes: metrics.counter("isthmus_ads_pushed_bytes_total", "Bytes of those responses.", ["type"]),
    refusals: metrics.counter("isthmus_ads_refusals_total", "Responses that a proxy refused (NACK).", ["type"]),
    stale: metrics.counter("isthmus_ads_stale_requests_total", "Answers to a response that was not the last.", [
      "type",
    ]),
  };
}
