import { type Clock, explain, Failure, within } from "../../base/index.ts";
import type { SocketAddress } from "../../values/index.ts";
import type { TcpProxyConfig } from "../config/listener.ts";
import { hashText } from "../upstream/balancer.ts";
import type { Endpoint, Outcome, Upstream, UpstreamSocket, Upstreams } from "../upstream/upstream.ts";
import type { AccessLog, AccessRecord, ResponseFlag } from "./access-log.ts";
import type { Connection } from "./connection.ts";
import { resetSocket, type Spliced, splice } from "./splice.ts";
import { Stopper } from "./stop.ts";

export interface TcpProxyDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly upstreams: Upstreams;
  readonly accessLog: AccessLog | undefined;
  /** For metrics: bytes passed on, and why it ended where it failed. */
  readonly count: (result: {
    readonly received: number;
    readonly sent: number;
    readonly flag: ResponseFlag | undefined;
  }) => void;
}

/** What became of finding a way to an endpoint. */
type Reached =
  | {
      readonly kind: "connected";
      readonly upstream: UpstreamSocket;
      readonly ended: (outcome: Outcome) => void;
      readonly attempts: number;
    }
  | {
      readonly kind: "failed";
      readonly flag: ResponseFlag;
      readonly details: string;
      readonly reason: string;
      readonly host: SocketAddress | undefined;
      readonly attempts: number;
    };

/** Other endpoints that are tried after one could not be reached, where the configuration does not ask for more. */
const leastAttempts = 3;

/** Passes a connection's bytes to its cluster, unread. Resolves when both sides are closed; never rejects. */
export async function proxyTcp(connection: Connection, tcp: TcpProxyConfig, deps: TcpProxyDeps): Promise<void> {
  const { clock } = deps;
  const startedAt = clock.monotonic();
  const cluster = chooseCluster(tcp.clusters, deps.random);
  const reached = await reach(connection, { cluster, tcp, deps });
  const write = (facts: Facts) => {
    const { received, sent, flag } = facts;
    deps.count({ received, sent, flag });
    log(facts);
  };
  const log = ({ received, sent, flag, ...rest }: Facts) => {
    deps.accessLog?.write(
      connectionRecord(connection, {
        durationMs: clock.monotonic() - startedAt,
        bytesReceived: received,
        bytesSent: sent,
        flags: flag ? [flag] : [],
        upstreamCluster: cluster,
        upstreamMetadata: deps.upstreams.get(cluster)?.metadata,
        attempts: reached.attempts,
        ...rest,
      }),
    );
  };
  if (reached.kind === "failed") {
    connection.socket.destroy();
    const { flag, details, reason, host } = reached;
    return write({ received: 0, sent: 0, flag, details, upstreamFailure: reason, upstreamHost: host });
  }
  const { upstream, ended } = reached;
  const way = {
    upstreamHost: upstream.endpoint.address,
    upstreamLocal: upstream.local,
    upstreamPeerUri: upstream.tls?.peer?.uris[0],
  };
  if (tcp.logAtStart) log({ received: 0, sent: 0, flag: undefined, details: "connected", ...way });
  const limit =
    tcp.maxDurationMs === undefined ? undefined : clock.after(tcp.maxDurationMs, () => connection.socket.destroy());
  const spliced = await splice({
    downstream: connection.socket,
    upstream: upstream.socket,
    clock,
    idleMs: tcp.idleTimeoutMs,
    signal: connection.signal,
  });
  limit?.cancel();
  ended(spliced.ended === "upstream-reset" ? "gateway-error" : "success");
  write({
    received: spliced.received,
    sent: spliced.sent,
    flag: flagOf(spliced.ended),
    details: detailsOf(spliced.ended),
    ...way,
  });
}

type Facts = Partial<AccessRecord> & { received: number; sent: number; flag: ResponseFlag | undefined };

function flagOf(ended: Spliced["ended"]): ResponseFlag | undefined {
  switch (ended) {
    case "upstream-reset":
      return "UC";
    case "downstream-reset":
      return "DC";
    case "idle":
      return "SI";
    case "aborted":
      return "LR";
    case "both-ended":
      return undefined;
  }
}

function detailsOf(ended: Spliced["ended"]): string | undefined {
  switch (ended) {
    case "upstream-reset":
      return "upstream_reset";
    case "downstream-reset":
      return "downstream_reset";
    case "idle":
      return "idle_timeout";
    case "aborted":
      return "drained";
    case "both-ended":
      return undefined;
  }
}

function chooseCluster(clusters: TcpProxyConfig["clusters"], random: () => number): string {
  const total = clusters.reduce((sum, { weight }) => sum + weight, 0);
  let point = clusters.length === 1 ? 0 : random() * total;
  for (const { name, weight } of clusters) {
    if (point < weight) return name;
    point -= weight;
  }
  return clusters[clusters.length - 1]!.name;
}

async function reach(
  connection: Connection,
  { cluster, tcp, deps }: { readonly cluster: string; readonly tcp: TcpProxyConfig; readonly deps: TcpProxyDeps },
): Promise<Reached> {
  const upstream = deps.upstreams.get(cluster);
  const failed = { kind: "failed", host: undefined, attempts: 0 } as const;
  if (!upstream)
    return { ...failed, flag: "NC", details: "cluster_not_found", reason: `there is no cluster "${cluster}"` };
  const tried = new Set<string>();
  const hash = tcp.hashBySource ? hashText(connection.remote.ip) : undefined;
  const attemptsAllowed = Math.max(leastAttempts, tcp.maxConnectAttempts);
  let last: Reached | undefined;
  for (let attempts = 1; attempts <= attemptsAllowed; attempts++) {
    const picked = upstream.pick({
      tried,
      hash,
      ...(connection.redirected === false ? {} : { destination: connection.destination }),
    });
    if (picked.kind === "none" && upstream.settling !== undefined) {
      await upstream.settling;
      attempts--;
      continue;
    }
    if (picked.kind === "none")
      return (
        last ?? {
          ...failed,
          flag: picked.flag,
          details: "no_healthy_upstream",
          reason: `cluster "${cluster}": ${picked.reason}`,
        }
      );
    const { endpoint } = picked;
    // The same one again only as often as the configuration says.
    if (tried.has(endpoint.key) && attempts > tcp.maxConnectAttempts) break;
    tried.add(endpoint.key);
    const result = await attempt(connection, { upstream, endpoint, attempts });
    if (result.kind === "connected") return result;
    last = result;
    if (result.flag === "UO" || result.flag === "DC") break;
  }
  return last!;
}

async function attempt(
  connection: Connection,
  {
    upstream,
    endpoint,
    attempts,
  }: { readonly upstream: Upstream; readonly endpoint: Endpoint; readonly attempts: number },
): Promise<Reached> {
  const ended = upstream.begin(endpoint);
  const given = new Stopper();
  const giveUp = () => given.abort();
  connection.socket.once("close", giveUp);
  connection.signal.addEventListener("abort", giveUp, { once: true });
  if (connection.socket.destroyed || connection.signal.aborted) giveUp();
  try {
    const connected = await upstream.connect(endpoint, {
      signal: given,
      carries: { source: connection.remote, destination: connection.destination },
    });
    if (given.aborted) {
      resetSocket(connected.socket);
      throw new Failure("upstream/aborted", "the caller went away");
    }
    return { kind: "connected", upstream: connected, ended, attempts };
  } catch (caught) {
    const failure = within(`cluster "${upstream.name}": endpoint "${endpoint.key}"`, caught);
    const gone = given.aborted;
    const overflow = failure.code === "upstream/overflow";
    ended(gone || overflow ? "cancelled" : "connect-failure");
    return {
      kind: "failed",
      flag: gone ? "DC" : overflow ? "UO" : "UF",
      details: gone ? "downstream_closed_before_connect" : failure.code.replace(/^[a-z]+\//, "").replaceAll("-", "_"),
      reason: explain(failure),
      host: endpoint.address,
      attempts,
    };
  } finally {
    connection.socket.off("close", giveUp);
    connection.signal.removeEventListener("abort", giveUp);
  }
}

const noHeader = () => undefined;

/** The record of a connection; what only requests have is absent. */
export function connectionRecord(
  connection: Pick<Connection, "startedMs" | "listener" | "remote" | "destination" | "sni" | "tls">,
  facts: Partial<AccessRecord>,
): AccessRecord {
  return {
    startMs: connection.startedMs,
    durationMs: 0,
    listener: connection.listener,
    protocol: undefined,
    method: undefined,
    authority: undefined,
    path: undefined,
    responseCode: undefined,
    flags: [],
    details: undefined,
    upstreamFailure: undefined,
    bytesReceived: 0,
    bytesSent: 0,
    routeName: undefined,
    upstreamCluster: undefined,
    upstreamHost: undefined,
    upstreamLocal: undefined,
    upstreamPeerUri: undefined,
    attempts: 0,
    downstreamRemote: connection.remote,
    downstreamLocal: connection.destination,
    sni: connection.sni,
    tls: connection.tls,
    requestHeader: noHeader,
    responseHeader: noHeader,
    ...facts,
  };
}
