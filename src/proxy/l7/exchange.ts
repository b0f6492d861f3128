import { backoffMs, Failure, type Timer } from "../../base/index.ts";
import { formatSocketAddress, type SocketAddress } from "../../values/index.ts";
import { matchesText } from "../config/matcher.ts";
import type { CorsPolicy, Forward, Route, RouteTable, VirtualHost, WeightedCluster } from "../config/route.ts";
import type { AccessRecord, ResponseFlag } from "../l4/access-log.ts";
import type { Endpoint, Outcome, Upstream } from "../upstream/upstream.ts";
import { forwardHeaders } from "./forwarding.ts";
import { type Headers, headerValue, isFieldValue, removeHeader, setHeader } from "./headers.ts";
import {
  type ClientConnection,
  type Downstream,
  type DownstreamHandler,
  limits,
  Refusal,
  type RequestHead,
  type ResetKind,
  type ResponseHead,
  type UpstreamHandler,
  type UpstreamStream,
} from "./message.ts";
import { mirror } from "./mirror.ts";
import { normalPath } from "./path.ts";
import type { ClusterPool } from "./pool.ts";
import { type AttemptEnd, decideRetry } from "./retry.ts";
import {
  changeHeaders,
  chooseCluster,
  findRoute,
  findVirtualHost,
  hashOf,
  isGrpc,
  normalAuthority,
  portColon,
  requestField,
  rewritePath,
} from "./route-match.ts";
import type { Served } from "./serve-http.ts";

const noFlags: readonly ResponseFlag[] = [];

/**
 * One request from its head to the last byte of its answer: which route, which endpoint, how often, and what is told of
 * it afterwards. The codecs on both sides call it; it holds no socket.
 */
export class Exchange implements DownstreamHandler, UpstreamHandler {
  readonly #served: Served;
  readonly #down: Downstream;
  readonly #started: number;
  /** The request as it goes out. */
  #request: RequestHead;
  readonly #asked: { readonly method: string; readonly path: string; readonly authority: string };
  #route: Route | undefined;
  #action: Forward | undefined;
  #virtualHost: VirtualHost | undefined;
  #cluster: string | undefined;
  #weighted: WeightedCluster | undefined;
  #upstream: Upstream | undefined;
  #pool: ClusterPool | undefined;
  #endpoint: Endpoint | undefined;
  #connection: ClientConnection | undefined;
  /** A connection that we wait for. */
  #acquiring: Promise<ClientConnection> | undefined;
  #stream: UpstreamStream | undefined;
  #ended: ((outcome: Outcome) => void) | undefined;
  #attempt = 0;
  /** Changes with each try, so that what comes late for an old one is known. */
  #try = 0;
  #freshTries = 0;
  readonly #tried = new Set<string>();
  #hash: number | undefined;
  /** Copies that wait for the request to be whole. A body too large to keep is not copied. */
  #mirrored: { readonly clusters: readonly string[]; readonly body: Buffer[] } | undefined;
  #resolved: { readonly destination: SocketAddress | undefined } | undefined;
  #attemptStarted = 0;
  #retrying = false;
  #counted = false;
  #timeout: Timer | undefined;
  #tryTimeout: Timer | undefined;
  #wait: Timer | undefined;
  #idle: Timer | undefined;
  // The request body: what has not gone out yet, and what may have to go out again.
  #body: Buffer[] = [];
  #bodyBytes = 0;
  #replayable = true;
  #bodyDone: boolean;
  #bodyPaused = false;
  #trailers: Headers | undefined;
  #response: ResponseHead | undefined;
  #status: number | undefined;
  #flags: readonly ResponseFlag[] = noFlags;
  #details: string | undefined;
  #failure: string | undefined;
  #bytesReceived = 0;
  #bytesSent = 0;
  #raw = false;
  #responseDone = false;
  #finished = false;
  #cors: Headers | undefined;

  constructor(served: Served, down: Downstream) {
    this.#served = served;
    this.#down = down;
    this.#started = served.service.http.clock.monotonic();
    const { request } = down;
    this.#request = request;
    this.#asked = { method: request.method, path: request.path, authority: request.authority };
    this.#bodyDone = !request.hasBody && request.upgrade === undefined;
    down.handler = this;
    served.service.http.metrics.begin();
  }

  /** Tells of a request that was refused before it could be understood. */
  static refused(served: Served, refusal: Refusal): void {
    const { http, accessLog } = served.service;
    http.metrics.begin();
    http.metrics.end(refusal.status, ["DPE"], 0);
    const { connection } = served;
    accessLog?.write({
      ...nothingKnown,
      startMs: http.clock.now(),
      listener: connection.listener,
      responseCode: refusal.status,
      flags: ["DPE"],
      details: refusal.details,
      upstreamFailure: refusal.message,
      downstreamRemote: connection.remote,
      downstreamLocal: connection.destination,
      sni: connection.sni,
      tls: connection.tls,
    });
  }

  start(): void {
    try {
      this.#begin();
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught;
      this.#reply(caught.status, caught.message, { details: caught.details, flags: ["DPE"], close: true });
    }
  }

  #begin(): void {
    const request = this.#request;
    const { service, connection, forwarding } = this.#served;
    const { manager, http } = service;
    if (request.method === "CONNECT") {
      this.#reply(403, `CONNECT to "${request.authority}" is not served on listener "${connection.listener}"`, {
        details: "upgrade_failed",
        flags: ["NR"],
      });
      return;
    }
    if (service.explicit && !request.absolute) {
      this.#reply(400, "this port is an explicit proxy: it wants a whole URL, as in GET http://host:port/path", {
        details: "explicit_proxy_wants_url",
        flags: ["DPE"],
        close: true,
      });
      return;
    }
    const normal = normalPath(request.path, manager);
    request.path = normal.path;
    if (normal.kind === "redirect") {
      this.#redirect(307, normal.path);
      return;
    }
    if (request.upgrade !== undefined && !manager.upgrades.has(request.upgrade)) this.#noUpgrade();
    this.#authority(request);
    const table = this.#table(request);
    if (!table) return;
    forwardHeaders(request.headers, connection, manager, forwarding);
    const host = findVirtualHost(table, request.authority);
    if (!host) {
      this.#reply(404, `no route: "${request.authority}" is no host of route table "${table.name}"`, {
        details: "route_not_found",
        flags: ["NR"],
      });
      return;
    }
    this.#virtualHost = host;
    const route = findRoute(host, request, forwarding.scheme, http.random);
    if (!route) {
      this.#reply(
        404,
        `no route: "${request.method} ${shorten(request.path)}" matches none of virtual host "${host.name}" of route table "${table.name}"`,
        { details: "route_not_found", flags: ["NR"] },
      );
      return;
    }
    this.#route = route;
    if (route.cors && this.#answersCors(route.cors)) return;
    const fault = route.fault ?? manager.fault;
    if (fault?.delay && http.random() < fault.delay.fraction) {
      this.#flags = [...this.#flags, "DI"];
      this.#down.pauseBody();
      this.#wait = http.clock.after(fault.delay.ms, () => {
        this.#down.resumeBody();
        this.#afterFaults(route);
      });
      return;
    }
    this.#afterFaults(route);
  }

  #afterFaults(route: Route): void {
    const { http, manager } = this.#served.service;
    const abort = (route.fault ?? manager.fault)?.abort;
    if (abort && http.random() < abort.fraction) {
      this.#reply(abort.status, "fault filter abort", {
        details: "fault_filter_abort",
        flags: ["FI"],
        ...(abort.grpcStatus === undefined ? {} : { grpcStatus: abort.grpcStatus }),
      });
      return;
    }
    const { action } = route;
    switch (action.kind) {
      case "direct": {
        this.#reply(action.status, action.body, { details: "direct_response", exact: true });
        return;
      }
      case "redirect": {
        const request = this.#request;
        let path = action.path ? rewritePath(request.path, action.path, route.match) : request.path;
        if (action.stripQuery) path = path.split("?")[0]!;
        const scheme = action.scheme ?? this.#served.forwarding.scheme;
        const colon = portColon(request.authority);
        const host = action.host ?? (colon < 0 ? request.authority : request.authority.slice(0, colon));
        const port =
          action.port ??
          (action.host === undefined && action.scheme === undefined && colon >= 0
            ? request.authority.slice(colon + 1)
            : undefined);
        this.#redirect(action.status, `${scheme}://${host}${port === undefined ? "" : `:${port}`}${path}`);
        return;
      }
      case "forward": {
        this.#forward(route, action);
        return;
      }
    }
  }

  // ---- before an endpoint is chosen

  #noUpgrade(): void {
    this.#request.upgrade = undefined;
    this.#bodyDone = !this.#request.hasBody;
  }

  /** The route table for this request; undefined after an answer. */
  #table(request: RequestHead): RouteTable | undefined {
    const { service } = this.#served;
    const { explicit, manager } = service;
    if (explicit) {
      const authority = normalAuthority(request.authority);
      const colon = portColon(authority);
      const port = colon < 0 ? 80 : Number(authority.slice(colon + 1));
      const name = explicit.routeName(authority, port);
      const table = name === undefined ? undefined : service.routes(name);
      if (!table)
        this.#reply(502, `no service of the mesh listens on port ${port}: "${request.authority}" is not known here`, {
          details: "route_not_found",
          flags: ["NR"],
        });
      return table;
    }
    if (manager.routes.kind === "inline") return manager.routes.table;
    const table = service.routes(manager.routes.name);
    if (!table)
      this.#reply(404, `no route: route table "${manager.routes.name}" has not arrived from the control plane`, {
        details: "route_configuration_not_found",
        flags: ["NR"],
      });
    return table;
  }

  #authority(request: RequestHead): void {
    const { manager } = this.#served.service;
    if (manager.stripTrailingDot || manager.stripPort !== "no") {
      const colon = portColon(request.authority);
      let host = colon < 0 ? request.authority : request.authority.slice(0, colon);
      let port = colon < 0 ? "" : request.authority.slice(colon);
      if (manager.stripTrailingDot && host.endsWith(".")) host = host.slice(0, -1);
      const same = port === `:${this.#served.connection.destination.port}`;
      if (manager.stripPort === "any" || (manager.stripPort === "matching" && same)) port = "";
      request.authority = host + port;
    }
  }

  #answersCors(policy: CorsPolicy): boolean {
    const { headers, method } = this.#request;
    const origin = headerValue(headers, "origin");
    if (origin === undefined) return false;
    const preflight = method === "OPTIONS" && headerValue(headers, "access-control-request-method") !== undefined;
    if (!policy.origins.some((match) => matchesText(match, origin))) {
      if (!preflight || policy.forwardUnmatchedPreflights) return false;
      this.#reply(403, "the origin is not allowed", { details: "cors_origin_mismatch" });
      return true;
    }
    const fields: Headers = ["access-control-allow-origin", origin];
    if (policy.credentials) fields.push("access-control-allow-credentials", "true");
    if (!preflight) {
      if (policy.expose !== "") fields.push("access-control-expose-headers", policy.expose);
      this.#cors = fields;
      return false;
    }
    if (policy.methods !== "") fields.push("access-control-allow-methods", policy.methods);
    if (policy.headers !== "") fields.push("access-control-allow-headers", policy.headers);
    if (policy.maxAge !== "") fields.push("access-control-max-age", policy.maxAge);
    this.#reply(200, "", { details: "cors.response", exact: true, headers: fields });
    return true;
  }

  #redirect(status: number, location: string): void {
    if (!isFieldValue(location)) {
      this.#reply(400, "the redirect would hold control characters", { details: "invalid_redirect" });
      return;
    }
    this.#reply(status, "", { details: "direct_response", exact: true, headers: ["location", location] });
  }

  #forward(route: Route, action: Forward): void {
    const request = this.#request;
    const { service, connection } = this.#served;
    const { http } = service;
    this.#action = action;
    const chosen = chooseCluster(action, request, http.random);
    if (!chosen) {
      this.#reply(action.notFoundStatus, "no cluster: the header that names it is missing", {
        details: "cluster_not_found",
        flags: ["NC"],
      });
      return;
    }
    this.#cluster = chosen.name;
    this.#weighted = chosen.weighted;
    if (request.upgrade !== undefined && action.upgrades.get(request.upgrade) === false) this.#noUpgrade();
    const upstream = http.upstreams.get(chosen.name);
    if (!upstream) {
      this.#reply(
        action.notFoundStatus,
        `no cluster: route "${route.name}" of virtual host "${route.virtualHost}" names cluster "${chosen.name}", which is not there`,
        {
          details: "cluster_not_found",
          flags: ["NC"],
        },
      );
      return;
    }
    this.#upstream = upstream;
    const pool = http.pools.of(upstream);
    this.#pool = pool;
    if (pool.active >= upstream.limits.maxRequests) {
      this.#reply(503, `upstream overflow: cluster "${upstream.name}": ${pool.active} requests run already`, {
        details: "overflow",
        flags: ["UO"],
        headers: ["x-envoy-overloaded", "true"],
      });
      return;
    }
    pool.active++;
    this.#counted = true;
    if (action.hash.length > 0) this.#hash = hashOf(action.hash, request, connection.remote.ip);

    // From here on the request is the one that goes out.
    if (action.path) {
      setHeader(request.headers, "x-envoy-original-path", request.path);
      request.path = rewritePath(request.path, action.path, route.match);
    }
    const literal = chosen.weighted?.host ?? (action.host?.kind === "literal" ? action.host.value : undefined);
    const host = literal ?? (action.host ? headerValue(request.headers, action.host.value) : undefined);
    if (host !== undefined && host !== "") request.authority = host;
    const vars = (name: string) => this.#variable(name);
    const changed =
      (chosen.weighted && changeHeaders(request.headers, chosen.weighted.requestHeaders, vars)) ??
      changeHeaders(request.headers, route.requestHeaders, vars);
    if (changed !== undefined) request.authority = changed;

    this.#replayable = request.upgrade === undefined;
    for (const shadow of action.mirrors) {
      if (http.random() >= shadow.fraction) continue;
      if (this.#bodyDone) mirror(this.#served, shadow.cluster, request, this.#body);
      else this.#mirrored = { clusters: [...(this.#mirrored?.clusters ?? []), shadow.cluster], body: [...this.#body] };
    }
    const grpcTimeout = action.maxGrpcTimeoutMs === undefined ? undefined : this.#grpcTimeout(action.maxGrpcTimeoutMs);
    const timeoutMs = grpcTimeout ?? action.timeoutMs;
    if (timeoutMs > 0 && request.upgrade === undefined)
      this.#timeout = http.clock.after(timeoutMs, () => this.#timedOut(timeoutMs));
    this.#tryOnce();
  }

  /** `grpc-timeout` in milliseconds, at most `mostMs` (0 for no bound); undefined when there is none. */
  #grpcTimeout(mostMs: number): number | undefined {
    const found = /^([0-9]{1,8})([HMSmun])$/.exec(headerValue(this.#request.headers, "grpc-timeout") ?? "");
    if (!found || !isGrpc(this.#request.headers)) return undefined;
    const ms = Number(found[1]) * { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }[found[2] as "H"];
    return mostMs > 0 ? Math.min(ms, mostMs) : ms;
  }

  // ---- attempts

  #tryOnce(): void {
    const upstream = this.#upstream!;
    const { connection, service } = this.#served;
    const current = ++this.#try;
    this.#attempt++;
    const avoid = this.#action?.retry?.avoidPreviousHosts === true && this.#tried.size > 0;
    const explicit = service.explicit;
    // Behind the explicit proxy the connection was meant for the proxy: where the caller meant to go stands in the request.
    const destination = explicit ? this.#resolved?.destination : connection.destination;
    const picked = upstream.pick({
      ...(destination ? { destination } : {}),
      ...(avoid ? { tried: this.#tried } : {}),
      ...(this.#hash === undefined ? {} : { hash: this.#hash }),
    });
    if (picked.kind === "none" && explicit?.destinationOf && !this.#resolved) {
      const authority = normalAuthority(this.#request.authority);
      const colon = portColon(authority);
      const host = colon < 0 ? authority : authority.slice(0, colon);
      this.#attempt--;
      explicit.destinationOf(host, colon < 0 ? 80 : Number(authority.slice(colon + 1))).then(
        (found) => this.#resolvedTo(current, found),
        () => this.#resolvedTo(current, undefined),
      );
      return;
    }
    if (picked.kind === "none") {
      this.#reply(503, `no healthy upstream: cluster "${upstream.name}": ${picked.reason}`, {
        details: "no_healthy_upstream",
        flags: [picked.flag],
      });
      return;
    }
    const { endpoint } = picked;
    this.#endpoint = endpoint;
    this.#tried.add(endpoint.key);
    const protocol =
      upstream.httpProtocol === "downstream"
        ? this.#request.version === "HTTP/2"
          ? "http2"
          : "http1"
        : upstream.httpProtocol;
    if (protocol === "http2" && this.#request.upgrade !== undefined) {
      this.#reply(
        501,
        `cluster "${upstream.name}" speaks HTTP/2, over which "${this.#request.upgrade}" is not carried`,
        {
          details: "upgrade_failed",
        },
      );
      return;
    }
    this.#ended = upstream.begin(endpoint);
    this.#attemptStarted = service.http.clock.monotonic();
    const perTry = this.#action?.retry?.perTryTimeoutMs ?? 0;
    if (perTry > 0) {
      this.#tryTimeout = service.http.clock.after(perTry, () => {
        this.#tryTimeout = undefined;
        this.#attemptEnded({ kind: "per-try-timeout" }, "gateway-error", {
          status: 504,
          flag: "UT",
          details: "upstream_per_try_timeout",
          message: `no response within the ${perTry} ms of one try`,
        });
      });
    }
    try {
      const acquired = this.#pool!.acquire(endpoint, protocol);
      if (!(acquired instanceof Promise)) {
        this.#send(acquired);
        return;
      }
      this.#acquiring = acquired;
      acquired.then(
        (ready) => {
          if (this.#acquiring === acquired) this.#acquiring = undefined;
          if (current === this.#try && !this.#finished) this.#send(ready);
          else ready.release();
        },
        (caught) => {
          if (this.#acquiring === acquired) this.#acquiring = undefined;
          if (current === this.#try && !this.#finished) this.#noConnection(caught);
        },
      );
    } catch (caught) {
      this.#noConnection(caught);
    }
  }

  #resolvedTo(current: number, destination: SocketAddress | undefined): void {
    if (current !== this.#try || this.#finished) return;
    this.#resolved = { destination };
    this.#tryOnce();
  }

  #noConnection(caught: unknown): void {
    const failure = Failure.from(caught);
    const overflow = failure.code === "upstream/overflow";
    const timeout = failure.code === "upstream/connect-timeout";
    this.#attemptEnded({ kind: "connect-failure" }, overflow ? "cancelled" : "connect-failure", {
      status: 503,
      flag: overflow ? "UO" : "UF",
      details: overflow
        ? "overflow"
        : timeout
          ? "connect_timeout"
          : "upstream_reset_before_response_started{connection_failure}",
      message: failure.message,
      ...(failure.hint === undefined ? {} : { hint: failure.hint }),
      final: overflow,
    });
  }

  #send(connection: ClientConnection): void {
    const request = this.#request;
    this.#connection = connection;
    if (this.#virtualHost?.includeAttemptCount)
      setHeader(request.headers, "x-envoy-attempt-count", String(this.#attempt));
    const stream = connection.start(request, this);
    this.#stream = stream;
    if (!request.hasBody && !this.#raw) return;
    let room = true;
    for (const chunk of this.#body) room = stream.data(chunk) && room;
    if (!this.#replayable) this.#forgetBody();
    if (this.#bodyDone) stream.end(this.#trailers);
    else if (!room) this.#pauseBody();
    else this.#resumeBody();
  }

  /** A try that came to nothing: again, or the answer that says why. */
  #attemptEnded(
    end: AttemptEnd,
    outcome: Outcome,
    failed: {
      readonly status: number;
      readonly flag: ResponseFlag;
      readonly details: string;
      readonly message: string;
      readonly hint?: string;
      readonly final?: boolean;
    },
  ): void {
    this.#abandonTry(outcome);
    if (!failed.final && this.#retried(end)) return;
    const upstream = this.#upstream!;
    const flags: ResponseFlag[] = this.#exhausted ? [failed.flag, "URX"] : [failed.flag];
    const hint = failed.hint === undefined ? "" : ` [${failed.hint}]`;
    const where = `cluster "${upstream.name}"${this.#endpoint ? `: endpoint "${this.#endpoint.key}"` : ""}`;
    this.#failure = `${where}: ${failed.message}`;
    const what = end.kind === "connect-failure" ? "upstream connect error" : "upstream error";
    this.#reply(failed.status, `${what}: ${where}: ${failed.message}${hint}`, {
      details: failed.details,
      flags,
      ...(failed.flag === "UO" ? { headers: ["x-envoy-overloaded", "true"] } : {}),
    });
  }

  #exhausted = false;

  #retried(end: AttemptEnd): boolean {
    const answer = decideRetry({
      policy: this.#action?.retry,
      end,
      attempts: this.#attempt,
      replayable: this.#replayable && this.#response === undefined,
      method: this.#request.method,
    });
    const { http } = this.#served.service;
    if (answer.kind === "fresh" && this.#freshTries < 3) {
      this.#freshTries++;
      this.#attempt--;
      this.#tryOnce();
      return true;
    }
    if (answer.kind !== "retry") {
      this.#exhausted = answer.kind === "stop" && answer.exhausted && this.#attempt > 1;
      return false;
    }
    const pool = this.#pool!;
    if (!this.#retrying) {
      if (pool.retries >= this.#upstream!.limits.maxRetries) return false;
      pool.retries++;
      this.#retrying = true;
    }
    http.metrics.retry();
    this.#wait = http.clock.after(backoffMs(this.#attempt, this.#action!.retry!.backoff, http.random), () => {
      this.#wait = undefined;
      this.#tryOnce();
    });
    return true;
  }

  #abandonTry(outcome: Outcome): void {
    this.#try++;
    this.#tryTimeout?.cancel();
    this.#tryTimeout = undefined;
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.reset();
    this.#notWaiting();
    this.#ended?.(outcome);
    this.#ended = undefined;
  }

  /** What was being made for us is for the next one. */
  #notWaiting(): void {
    if (this.#acquiring !== undefined) this.#pool!.abandon(this.#acquiring);
    this.#acquiring = undefined;
  }

  #timedOut(ms: number): void {
    this.#timeout = undefined;
    const where = this.#endpoint ? ` from endpoint "${this.#endpoint.key}"` : "";
    this.#abandonTry("gateway-error");
    if (this.#response) {
      this.#cut("UT", "response_timeout");
      return;
    }
    this.#reply(
      504,
      `upstream request timeout: cluster "${this.#cluster}": no whole response${where} within ${ms} ms`,
      {
        details: "response_timeout",
        flags: ["UT"],
      },
    );
  }

  // ---- DownstreamHandler

  onRequestData(chunk: Buffer): void {
    this.#bytesReceived += chunk.length;
    if (this.#finished) return;
    this.#touch();
    if (this.#mirrored) {
      this.#mirrored.body.push(chunk);
      if (this.#bytesReceived > limits.replayBytes) this.#mirrored = undefined;
    }
    const stream = this.#stream;
    if (!stream || this.#replayable) {
      this.#body.push(chunk);
      this.#bodyBytes += chunk.length;
      if (this.#bodyBytes > limits.replayBytes && stream) {
        this.#replayable = false;
        this.#forgetBody();
      }
    }
    if (stream) {
      if (!stream.data(chunk)) this.#pauseBody();
    } else if (this.#bodyBytes > limits.replayBytes) {
      this.#replayable = false;
      this.#pauseBody();
    }
  }

  onRequestEnd(trailers: Headers | undefined): void {
    if (this.#finished) return;
    this.#bodyDone = true;
    this.#trailers = trailers;
    for (const cluster of this.#mirrored?.clusters ?? [])
      mirror(this.#served, cluster, this.#request, this.#mirrored!.body);
    this.#mirrored = undefined;
    this.#stream?.end(trailers);
    if (this.#raw && this.#responseDone) this.#finish();
  }

  onDownstreamReset(flag: ResponseFlag, details: string): void {
    if (this.#finished) return;
    this.#flags = [...this.#flags, flag];
    this.#details = details;
    this.#abandonTry("cancelled");
    this.#finish();
  }

  onDownstreamDrain(): void {
    this.#stream?.resume();
  }

  #pauseBody(): void {
    if (this.#bodyPaused || this.#bodyDone) return;
    this.#bodyPaused = true;
    this.#down.pauseBody();
  }

  #resumeBody(): void {
    if (!this.#bodyPaused) return;
    this.#bodyPaused = false;
    this.#down.resumeBody();
  }

  #forgetBody(): void {
    this.#body = [];
    this.#bodyBytes = 0;
  }

  // ---- UpstreamHandler

  onUpstreamDrain(): void {
    this.#resumeBody();
  }

  onInformational(status: number, headers: Headers): void {
    this.#down.informational(status, headers);
  }

  onResponse(head: ResponseHead, end: boolean): void {
    this.#tryTimeout?.cancel();
    this.#tryTimeout = undefined;
    const { status } = head;
    const outcome = outcomeOf(status, head.headers);
    if (outcome !== "success" && this.#action?.retry) {
      const before = this.#stream;
      if (end) this.#stream = undefined;
      if (this.#wouldRetry({ kind: "response", status, headers: head.headers })) {
        this.#abandonTry(outcome);
        this.#retried({ kind: "response", status, headers: head.headers });
        return;
      }
      this.#stream = before;
    }
    this.#response = head;
    // What is answered cannot be sent again: what was kept for that can go.
    if (this.#stream && this.#replayable) {
      this.#replayable = false;
      this.#forgetBody();
    }
    this.#details = "via_upstream";
    if (status === 101) {
      this.#raw = true;
      this.#timeout?.cancel();
    }
    this.#ended?.(outcome);
    this.#ended = undefined;
    this.#respond(head, end);
    if (end) this.#responseEnded(undefined, true);
  }

  #wouldRetry(end: AttemptEnd): boolean {
    const answer = decideRetry({
      policy: this.#action?.retry,
      end,
      attempts: this.#attempt,
      replayable: this.#replayable,
      method: this.#request.method,
    });
    if (answer.kind === "stop" && answer.exhausted) this.#flags = [...this.#flags, "URX"];
    return answer.kind === "retry" && (this.#retrying || this.#pool!.retries < this.#upstream!.limits.maxRetries);
  }

  onResponseData(chunk: Buffer): void {
    if (this.#finished) return;
    this.#bytesSent += chunk.length;
    if (this.#idle) this.#touch();
    if (!this.#down.data(chunk)) this.#stream?.pause();
  }

  onResponseEnd(trailers: Headers | undefined): void {
    this.#responseEnded(trailers, false);
  }

  #responseEnded(trailers: Headers | undefined, said: boolean): void {
    if (this.#finished) return;
    this.#responseDone = true;
    if (this.#raw) {
      this.#down.end(undefined);
      if (this.#bodyDone) this.#finish();
      return;
    }
    this.#stream = undefined;
    if (!said) this.#down.end(trailers);
    this.#finish();
  }

  onUpstreamReset(kind: ResetKind, failure: Failure): void {
    if (this.#finished) return;
    this.#stream = undefined;
    if (this.#response) {
      this.#cut("UC", `upstream_reset_after_response_started{${kind}}`, failure);
      return;
    }
    // A stream that was reset is an answer of a kind; a connection that is gone was idle for too long, most likely.
    const stale = this.#connection?.reused === true && failure.code === "upstream/connection-lost";
    this.#attemptEnded({ kind: "reset", how: kind, stale }, "gateway-error", {
      status: kind === "protocol" ? 502 : 503,
      flag: kind === "protocol" ? "UPE" : kind === "refused" ? "UR" : "UC",
      details: `upstream_reset_before_response_started{${kind === "protocol" ? "protocol_error" : "connection_termination"}}`,
      message: failure.message,
    });
  }

  // ---- answers

  /** Sends the head of an upstream's answer. */
  #respond(head: ResponseHead, end: boolean): void {
    const { headers } = head;
    const { http } = this.#served.service;
    removeHeader(headers, "x-envoy-upstream-service-time");
    headers.push("x-envoy-upstream-service-time", String(Math.round(http.clock.monotonic() - this.#attemptStarted)));
    if (this.#virtualHost?.includeAttemptCountInResponse)
      setHeader(headers, "x-envoy-attempt-count", String(this.#attempt));
    this.#ourFields(head);
    this.#status = head.status;
    this.#down.respond(head, end);
  }

  #ourFields(head: ResponseHead): void {
    const { headers } = head;
    const { manager } = this.#served.service;
    const route = this.#route;
    if (this.#weighted || (route && route.responseHeaders.length > 0)) {
      const vars = (name: string) => this.#variable(name);
      if (this.#weighted) changeHeaders(headers, this.#weighted.responseHeaders, vars);
      if (route) changeHeaders(headers, route.responseHeaders, vars);
    }
    const { mode, name } = manager.server;
    if (mode === "overwrite" || (mode === "if-absent" && headerValue(headers, "server") === undefined))
      setHeader(headers, "server", name);
    if (this.#cors)
      for (let i = 0; i < this.#cors.length; i += 2) setHeader(headers, this.#cors[i]!, this.#cors[i + 1]!);
    if (manager.requestId.inResponse) {
      const id = headerValue(this.#request.headers, "x-request-id");
      if (id !== undefined) setHeader(headers, "x-request-id", id);
    }
  }

  /** Answers from here. */
  #reply(
    status: number,
    body: string,
    options: {
      readonly details: string;
      readonly flags?: readonly ResponseFlag[];
      readonly headers?: Headers;
      readonly exact?: boolean;
      readonly close?: boolean;
      readonly grpcStatus?: number;
    },
  ): void {
    if (this.#finished) return;
    this.#details = options.details;
    if (options.flags) this.#flags = [...this.#flags, ...options.flags];
    const request = this.#request;
    const headers: Headers = [...(options.headers ?? [])];
    if (isGrpc(request.headers) && !(options.exact && status < 400)) {
      // Those who speak gRPC read the status there and nowhere else.
      headers.push(
        "content-type",
        "application/grpc",
        "grpc-status",
        String(options.grpcStatus ?? grpcStatusOf(status)),
      );
      headers.push("grpc-message", encodeURIComponent(body).replaceAll("%20", " "));
      const head: ResponseHead = {
        status: 200,
        reason: "",
        headers,
        contentLength: request.version === "HTTP/2" ? -1 : 0,
      };
      this.#response = head;
      this.#ourFields(head);
      this.#status = 200;
      this.#down.respond(head, true);
      this.#finish();
      return;
    }
    const bytes = Buffer.from(options.exact || body === "" ? body : `${body}\n`);
    const head: ResponseHead = { status, reason: "", headers, contentLength: bytes.length };
    if (options.close) head.close = true;
    if (bytes.length > 0) headers.push("content-type", "text/plain");
    this.#response = head;
    this.#ourFields(head);
    this.#status = status;
    const empty = bytes.length === 0 || request.method === "HEAD";
    this.#down.respond(head, empty);
    if (!empty) {
      this.#bytesSent += bytes.length;
      this.#down.data(bytes);
      this.#down.end(undefined);
    }
    this.#finish();
  }

  /** An answer that cannot be finished: the client must see that. */
  #cut(flag: ResponseFlag, details: string, failure?: Failure): void {
    this.#flags = [...this.#flags, flag];
    this.#details = details;
    if (failure) this.#failure = `cluster "${this.#cluster}": endpoint "${this.#endpoint?.key}": ${failure.message}`;
    this.#down.handler = undefined;
    this.#down.reset();
    this.#finish();
  }

  #touch(): void {
    const ms = this.#action?.idleTimeoutMs;
    if (ms === undefined || ms === 0) return;
    this.#idle?.cancel();
    this.#idle = this.#served.service.http.clock.after(ms, () => {
      this.#abandonTry("gateway-error");
      if (this.#response) return this.#cut("SI", "stream_idle_timeout");
      this.#reply(504, `stream idle timeout: cluster "${this.#cluster}": nothing moved for ${ms} ms`, {
        details: "stream_idle_timeout",
        flags: ["SI"],
      });
    });
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#timeout?.cancel();
    this.#tryTimeout?.cancel();
    this.#wait?.cancel();
    this.#idle?.cancel();
    this.#notWaiting();
    this.#ended?.("cancelled");
    this.#ended = undefined;
    this.#body = [];
    if (this.#stream && !this.#raw) this.#stream.reset();
    this.#stream = undefined;
    if (this.#counted) this.#pool!.active--;
    if (this.#retrying) this.#pool!.retries--;
    const { http, accessLog } = this.#served.service;
    const durationMs = http.clock.monotonic() - this.#started;
    http.metrics.end(this.#status, this.#flags, durationMs);
    accessLog?.write(this.#record(durationMs));
  }

  #record(durationMs: number): AccessRecord {
    const { connection, forwarding } = this.#served;
    const upstream = this.#connection?.socket;
    const request = this.#request;
    const response = this.#response;
    return {
      startMs: this.#served.service.http.clock.now() - durationMs,
      durationMs,
      listener: connection.listener,
      protocol: request.version,
      method: this.#asked.method,
      authority: this.#asked.authority,
      path: this.#asked.path,
      responseCode: this.#status,
      flags: this.#flags,
      details: this.#details,
      upstreamFailure: this.#failure,
      bytesReceived: this.#bytesReceived,
      bytesSent: this.#bytesSent,
      routeName: this.#route?.name,
      upstreamCluster: this.#cluster,
      upstreamHost: this.#endpoint?.address,
      upstreamLocal: upstream?.local,
      upstreamPeerUri: upstream?.tls?.peer?.uris[0],
      attempts: this.#attempt,
      downstreamRemote: connection.remote,
      downstreamLocal: connection.destination,
      sni: connection.sni,
      tls: connection.tls,
      requestHeader: (name) => requestField(request, forwarding.scheme, name),
      responseHeader: (name) => (response ? responseField(response, name) : undefined),
    };
  }

  /** A command operator in a header that a route sets. */
  #variable(name: string): string {
    const { connection, forwarding } = this.#served;
    const call = /^([A-Z0-9_]+)\(([^)]*)\)$/.exec(name);
    const show = (address: SocketAddress) => formatSocketAddress(address);
    switch (call?.[1] ?? name) {
      case "REQ":
        return requestField(this.#request, forwarding.scheme, (call?.[2] ?? "").toLowerCase().split("?")[0]!) ?? "";
      case "RESP":
        return (this.#response && responseField(this.#response, (call?.[2] ?? "").toLowerCase())) ?? "";
      case "DOWNSTREAM_REMOTE_ADDRESS":
        return show(connection.remote);
      case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
        return connection.remote.ip;
      case "DOWNSTREAM_LOCAL_ADDRESS":
        return show(connection.destination);
      case "DOWNSTREAM_PEER_URI_SAN":
        return connection.tls?.peer?.uris.join(",") ?? "";
      case "UPSTREAM_HOST":
        return this.#endpoint?.key ?? "";
      case "UPSTREAM_CLUSTER":
        return this.#cluster ?? "";
      case "PROTOCOL":
        return this.#request.version;
      case "RESPONSE_CODE":
        return String(this.#status ?? "");
      default:
        return "-";
    }
  }
}

const nothingKnown = {
  durationMs: 0,
  protocol: undefined,
  method: undefined,
  authority: undefined,
  path: undefined,
  bytesReceived: 0,
  bytesSent: 0,
  routeName: undefined,
  upstreamCluster: undefined,
  upstreamHost: undefined,
  upstreamLocal: undefined,
  upstreamPeerUri: undefined,
  attempts: 0,
  requestHeader: () => undefined,
  responseHeader: () => undefined,
} as const;

function responseField(head: ResponseHead, name: string): string | undefined {
  if (name === ":status") return String(head.status);
  if (name === "content-length") return head.contentLength < 0 ? undefined : String(head.contentLength);
  return headerValue(head.headers, name);
}

/** How an endpoint did, from its answer. For gRPC the status stands in a field when there is no body. */
function outcomeOf(status: number, headers: Headers): Outcome {
  if (status >= 500) return status === 502 || status === 503 || status === 504 ? "gateway-error" : "server-error";
  if (status !== 200) return status === 409 ? "cancelled" : "success";
  const grpc = headerValue(headers, "grpc-status");
  if (grpc === undefined || grpc === "0") return "success";
  return grpc === "14" ? "gateway-error" : "server-error";
}

function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

const shorten = (text: string) => (text.length > 100 ? `${text.slice(0, 100)}…` : text);
