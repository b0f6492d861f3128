import type { Forward, Route, WeightedCluster } from "../config/route.ts";
import type { Upstream } from "../upstream/upstream.ts";
import { headerValue, setHeader } from "./headers.ts";
import type { RequestHead } from "./message.ts";
import type { ClusterPool } from "./pool.ts";
import type { Reply } from "./reply.ts";
import { changeHeaders, chooseCluster, isGrpc, type Operators, rewritePath } from "./route-match.ts";
import type { HttpProxy } from "./serve-http.ts";

/** The cluster that a request goes to, with its connections, or the answer that says why there is none. */
export type Found =
  | {
      readonly kind: "cluster";
      readonly upstream: Upstream;
      readonly pool: ClusterPool;
      readonly weighted: WeightedCluster | undefined;
    }
  | { readonly kind: "reply"; readonly cluster: string | undefined; readonly reply: Reply };

export function findCluster(
  request: RequestHead,
  { route, action, http }: { readonly route: Route; readonly action: Forward; readonly http: HttpProxy },
): Found {
  const chosen = chooseCluster(action, request, http.random);
  const cluster = chosen?.name;
  const upstream = cluster === undefined ? undefined : http.upstreams.get(cluster);
  if (!upstream) {
    const why =
      cluster === undefined
        ? "the header that names it is missing"
        : `route "${route.name}" of virtual host "${route.virtualHost}" names cluster "${cluster}", which is not there`;
    const status = action.notFoundStatus;
    const reply: Reply = { status, body: `no cluster: ${why}`, details: "cluster_not_found", flags: ["NC"] };
    return { kind: "reply", cluster, reply };
  }
  const pool = http.pools.of(upstream);
  if (pool.active < upstream.limits.maxRequests) return { kind: "cluster", upstream, pool, weighted: chosen?.weighted };
  const reply: Reply = {
    status: 503,
    body: `upstream overflow: cluster "${upstream.name}": ${pool.active} requests run already`,
    details: "overflow",
    flags: ["UO"],
    headers: ["x-envoy-overloaded", "true"],
  };
  return { kind: "reply", cluster, reply };
}

/** Makes of a request what goes out, in place: path, host and fields as its route says. */
export function rewriteRequest(
  request: RequestHead,
  how: {
    readonly route: Route;
    readonly action: Forward;
    readonly weighted: WeightedCluster | undefined;
    readonly account: Operators;
  },
): void {
  const { route, action, weighted, account } = how;
  if (action.path) {
    setHeader(request.headers, "x-envoy-original-path", request.path);
    request.path = rewritePath(request.path, action.path, route.match);
  }
  const literal = weighted?.host ?? (action.host?.kind === "literal" ? action.host.value : undefined);
  const host = literal ?? (action.host ? headerValue(request.headers, action.host.value) : undefined);
  if (host !== undefined && host !== "") request.authority = host;
  const changed =
    (weighted && changeHeaders(request.headers, weighted.requestHeaders, account)) ??
    changeHeaders(request.headers, route.requestHeaders, account);
  if (changed !== undefined) request.authority = changed;
}

/** How long the whole answer may take, in milliseconds; 0 for as long as it likes. */
export function timeoutOf(request: RequestHead, action: Forward): number {
  if (request.upgrade !== undefined) return 0;
  const most = action.maxGrpcTimeoutMs;
  return (most === undefined ? undefined : grpcTimeout(request, most)) ?? action.timeoutMs;
}

const unitMs = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 } as const;

/** `grpc-timeout` in milliseconds, at most `mostMs` (0 for no bound); undefined when there is none. */
function grpcTimeout({ headers }: RequestHead, mostMs: number): number | undefined {
  const found = /^([0-9]{1,8})([HMSmun])$/.exec(headerValue(headers, "grpc-timeout") ?? "");
  if (!found || !isGrpc(headers)) return undefined;
  const ms = Number(found[1]) * unitMs[found[2] as keyof typeof unitMs];
  return mostMs > 0 ? Math.min(ms, mostMs) : ms;
}
