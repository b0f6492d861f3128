import { backoffMs, Failure, type Timer } from "../../base/index.ts";
import type { SocketAddress } from "../../values/index.ts";
import type { RetryPolicy } from "../config/route.ts";
import type { ResponseFlag } from "../l4/access-log.ts";
import type { Endpoint, Outcome, Upstream } from "../upstream/upstream.ts";
import { setHeader } from "./headers.ts";
import type {
  ClientConnection,
  RequestHead,
  ResetKind,
  ResponseHead,
  UpstreamHandler,
  UpstreamStream,
} from "./message.ts";
import type { ClusterPool } from "./pool.ts";
import type { Reply } from "./reply.ts";
import { type AttemptEnd, decideRetry } from "./retry.ts";
import { normalAuthority, portColon } from "./route-match.ts";
import type { Served } from "./serve-http.ts";

/** Whose request is tried. */
export interface Trier extends UpstreamHandler {
  /** The request can be sent once more from its beginning. */
  readonly replayable: boolean;
  /** The request's head is on its way: now its body. */
  onSent(stream: UpstreamStream): void;
  /** No try is left: this is the answer. `failure` says for the log what failed. */
  giveUp(reply: Reply, failure?: string): void;
}

/** How often a connection that turns out dead is replaced at once, without counting as a try. */
const mostFresh = 3;

/** The tries of one request: which endpoint, on which connection, how often, and what each came to. */
export class Attempts {
  /** Tries made, the present one included. */
  count = 0;
  endpoint: Endpoint | undefined;
  connection: ClientConnection | undefined;
  stream: UpstreamStream | undefined;
  /** When the present try began, monotonic. */
  startedMs = 0;
  readonly #served: Served;
  readonly #request: RequestHead;
  readonly #upstream: Upstream;
  readonly #pool: ClusterPool;
  readonly #retry: RetryPolicy | undefined;
  readonly #hash: number | undefined;
  readonly #announce: boolean;
  readonly #trier: Trier;
  /** Changes with each try, so that what comes late for an old one is known. */
  #current = 0;
  #fresh = 0;
  #tried: Set<string> | undefined;
  /** The priority of each try, where tries should go through them. */
  readonly #priorities: number[] = [];
  #resolved: { readonly destination: SocketAddress | undefined } | undefined;
  #ended: ((outcome: Outcome) => void) | undefined;
  /** Counted among the retries that run. */
  #retrying = false;
  #timeout: Timer | undefined;
  #wait: Timer | undefined;
  /** A connection that we wait for. */
  #acquiring: Promise<ClientConnection> | undefined;

  constructor(options: {
    readonly served: Served;
    readonly request: RequestHead;
    readonly upstream: Upstream;
    readonly pool: ClusterPool;
    readonly retry: RetryPolicy | undefined;
    readonly hash: number | undefined;
    /** The upstream is told which try this is. */
    readonly announce: boolean;
    readonly trier: Trier;
  }) {
    this.#served = options.served;
    this.#request = options.request;
    this.#upstream = options.upstream;
    this.#pool = options.pool;
    this.#retry = options.retry;
    this.#hash = options.hash;
    this.#announce = options.announce;
    this.#trier = options.trier;
  }

  /** Tries once: the first time, and each time that it is worth another. */
  start(): void {
    const upstream = this.#upstream;
    const { connection, service } = this.#served;
    const current = ++this.#current;
    this.count++;
    // Behind the explicit proxy the connection was meant for the proxy: where the caller meant to go stands in the request.
    const destination = service.explicit ? this.#resolved?.destination : connection.destination;
    const picked = upstream.pick({
      destination,
      tried: this.#tried,
      triedPriorities: triedPriorities(this.#priorities, this.#retry?.leavePriorityAfter),
      hash: this.#hash,
    });
    if (picked.kind === "none") {
      if (this.#settle(current) || this.#resolve(current)) return;
      const why = `cluster "${upstream.name}": ${picked.reason}`;
      const body = `no healthy upstream: ${why}`;
      this.#trier.giveUp({ status: 503, body, details: "no_healthy_upstream", flags: [picked.flag] }, why);
      return;
    }
    const { endpoint } = picked;
    this.endpoint = endpoint;
    if (this.#retry?.leavePriorityAfter !== undefined) this.#priorities.push(endpoint.priority);
    if (this.#retry?.avoidPreviousHosts) this.#tried = (this.#tried ?? new Set()).add(endpoint.key);
    const protocol = protocolTo(upstream, this.#request);
    if (protocol === "http2" && this.#request.upgrade !== undefined) {
      const body = `cluster "${upstream.name}" speaks HTTP/2, over which "${this.#request.upgrade}" is not carried`;
      this.#trier.giveUp({ status: 501, body, details: "upgrade_failed" });
      return;
    }
    this.#ended = upstream.begin(endpoint);
    this.startedMs = service.http.clock.monotonic();
    this.#limit(this.#retry?.perTryTimeoutMs ?? 0);
    let acquired: ReturnType<ClusterPool["acquire"]>;
    try {
      const carries = upstream.announces
        ? { source: connection.remote, destination: connection.destination }
        : undefined;
      acquired = this.#pool.acquire(endpoint, protocol, carries);
    } catch (caught) {
      this.#noConnection(caught);
      return;
    }
    if (!(acquired instanceof Promise)) {
      this.#send(acquired);
      return;
    }
    this.#acquiring = acquired;
    acquired.then(
      (ready) => {
        if (this.#acquiring === acquired) this.#acquiring = undefined;
        if (current === this.#current) this.#send(ready);
        else ready.release();
      },
      (caught) => {
        if (this.#acquiring === acquired) this.#acquiring = undefined;
        if (current === this.#current) this.#noConnection(caught);
      },
    );
  }

  /**
   * Whether another try was begun in place of an answer that the route would rather not have; `exhausted` when it was the
   * last, `overflowed` when too many others are tried again already.
   */
  retriesResponse(
    { status, headers }: ResponseHead,
    { outcome, whole }: { readonly outcome: Outcome; readonly whole: boolean },
  ): "retried" | "kept" | "exhausted" | "overflowed" {
    const answer = this.#decide({ kind: "response", status, headers });
    if (answer.kind === "stop" && answer.exhausted) return "exhausted";
    if (answer.kind !== "retry") return "kept";
    if (!this.#mayRetry()) return "overflowed";
    // The connection of a whole answer is free already.
    if (whole) this.stream = undefined;
    this.abandon(outcome);
    this.#again();
    return "retried";
  }

  /** An answer has begun: from here on this try is the one. */
  answered(outcome: Outcome): void {
    this.#ended?.(outcome);
    this.#ended = undefined;
  }

  /** Something has come of the present try: the time for one try is no longer counted. */
  heard(): void {
    this.#timeout?.cancel();
    this.#timeout = undefined;
  }

  /** The present try ended without any answer. */
  reset(kind: ResetKind, failure: Failure): void {
    this.stream = undefined;
    const protocol = kind === "protocol";
    // A stream that was reset is an answer of a kind; a connection that is gone was idle for too long, most likely.
    const stale = this.connection?.reused === true && failure.code === "upstream/connection-lost";
    const word = protocol ? "protocol_error" : "connection_termination";
    this.#failed({ kind: "reset", how: kind, stale }, "gateway-error", {
      status: protocol ? 502 : 503,
      flag: protocol ? "UPE" : kind === "refused" ? "UR" : "UC",
      details: `upstream_reset_before_response_started{${word}}`,
      message: failure.message,
    });
  }

  /** Gives the present try up, and any that would follow. */
  abandon(outcome: Outcome): void {
    this.#current++;
    this.#timeout?.cancel();
    this.#timeout = undefined;
    const { stream } = this;
    this.stream = undefined;
    stream?.reset();
    this.#notWaiting();
    this.#ended?.(outcome);
    this.#ended = undefined;
  }

  /** What was being made for us is for the next one. */
  #notWaiting(): void {
    if (this.#acquiring !== undefined) this.#pool.abandon(this.#acquiring);
    this.#acquiring = undefined;
  }

  /** The request is over, whatever came of it. Plain bytes that still run are left to their ends. */
  close({ raw }: { readonly raw: boolean }): void {
    this.#current++;
    if (!raw) this.stream?.reset();
    this.stream = undefined;
    this.#notWaiting();
    this.#timeout?.cancel();
    this.#wait?.cancel();
    this.#ended?.("cancelled");
    this.#ended = undefined;
    if (this.#retrying) this.#pool.retries--;
    this.#retrying = false;
  }

  #send(connection: ClientConnection): void {
    this.connection = connection;
    if (this.#announce) setHeader(this.#request.headers, "x-envoy-attempt-count", String(this.count));
    this.stream = connection.start(this.#request, this.#trier);
    this.#trier.onSent(this.stream);
  }

  #limit(perTryMs: number): void {
    if (perTryMs === 0) return;
    this.#timeout = this.#served.service.http.clock.after(perTryMs, () => {
      this.#failed({ kind: "per-try-timeout" }, "gateway-error", {
        status: 504,
        flag: "UT",
        details: "upstream_per_try_timeout",
        message: `no response within the ${perTryMs} ms of one try`,
      });
    });
  }

  /** Asks where the host is that an explicit proxy's caller named, once; whether the answer is waited for. */
  #resolve(current: number): boolean {
    const find = this.#served.service.explicit?.destinationOf;
    if (!find || this.#resolved) return false;
    const authority = normalAuthority(this.#request.authority);
    const colon = portColon(authority);
    this.count--;
    const found = (destination: SocketAddress | undefined) => {
      if (current !== this.#current) return;
      this.#resolved = { destination };
      this.start();
    };
    const host = colon < 0 ? authority : authority.slice(0, colon);
    find(host, colon < 0 ? 80 : Number(authority.slice(colon + 1))).then(found, () => found(undefined));
    return true;
  }

  /** A cluster that is new has nobody before its names are answered: that is no reason to fail. */
  #settle(current: number): boolean {
    const { settling } = this.#upstream;
    if (settling === undefined) return false;
    this.count--;
    void settling.then(() => {
      if (current === this.#current) this.start();
    });
    return true;
  }

  #noConnection(caught: unknown): void {
    const failure = Failure.from(caught);
    const overflow = failure.code === "upstream/overflow";
    const word =
      failure.code === "upstream/connect-timeout"
        ? "connect_timeout"
        : "upstream_reset_before_response_started{connection_failure}";
    this.#failed({ kind: "connect-failure" }, overflow ? "cancelled" : "connect-failure", {
      status: 503,
      flag: overflow ? "UO" : "UF",
      details: overflow ? "overflow" : word,
      message: failure.message,
      hint: failure.hint,
      final: overflow,
    });
  }

  /** A try that came to nothing: again, or the answer that says why. */
  #failed(
    end: AttemptEnd,
    outcome: Outcome,
    failed: {
      readonly status: number;
      readonly flag: ResponseFlag;
      readonly details: string;
      readonly message: string;
      readonly hint?: string | undefined;
      /** Another try would not go better. */
      readonly final?: boolean;
    },
  ): void {
    this.abandon(outcome);
    const answer = failed.final ? undefined : this.#decide(end);
    if (answer?.kind === "fresh" && this.#fresh++ < mostFresh) {
      this.count--;
      this.start();
      return;
    }
    if (answer?.kind === "retry" && this.#mayRetry()) {
      this.#again();
      return;
    }
    const exhausted = answer?.kind === "stop" && answer.exhausted && this.count > 1;
    // It would have been tried again, but too many others are already.
    const overflowed = answer?.kind === "retry" ? (["UO"] as const) : [];
    const hint = failed.hint === undefined ? "" : ` [${failed.hint}]`;
    const where = `cluster "${this.#upstream.name}"${this.endpoint ? `: endpoint "${this.endpoint.key}"` : ""}`;
    const what = end.kind === "connect-failure" ? "upstream connect error" : "upstream error";
    this.#trier.giveUp(
      {
        status: failed.status,
        body: `${what}: ${where}: ${failed.message}${hint}`,
        details: failed.details,
        flags: exhausted ? ["URX", failed.flag] : [...overflowed, failed.flag],
        ...(failed.flag === "UO" ? { headers: ["x-envoy-overloaded", "true"] } : {}),
      },
      `${where}: ${failed.message}`,
    );
  }

  #decide(end: AttemptEnd): ReturnType<typeof decideRetry> {
    return decideRetry({
      policy: this.#retry,
      end,
      attempts: this.count,
      replayable: this.#trier.replayable,
      method: this.#request.method,
    });
  }

  /** Whether one more retry may run at this cluster; counts it in. */
  #mayRetry(): boolean {
    if (this.#retrying) return true;
    const { maxRetries, retryBudget } = this.#upstream.limits;
    const most = retryBudget
      ? Math.max(retryBudget.least, Math.floor((this.#pool.active * retryBudget.percent) / 100))
      : maxRetries;
    if (this.#pool.retries >= most) return false;
    this.#pool.retries++;
    this.#retrying = true;
    return true;
  }

  #again(): void {
    const { http } = this.#served.service;
    http.metrics.retry();
    this.#wait = http.clock.after(backoffMs(this.count, this.#retry!.backoff, http.random), () => this.start());
  }
}

/** The priorities of the tries so far, as of the last time that the rule looked; undefined where there is no such rule. */
function triedPriorities(tries: readonly number[], every: number | undefined): ReadonlySet<number> | undefined {
  if (every === undefined) return undefined;
  return new Set(tries.slice(0, tries.length - (tries.length % every)));
}

function protocolTo({ httpProtocol }: Upstream, { version }: RequestHead): "http1" | "http2" {
  if (httpProtocol !== "downstream") return httpProtocol;
  return version === "HTTP/2" ? "http2" : "http1";
}
