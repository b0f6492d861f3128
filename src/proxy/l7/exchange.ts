import type { Failure } from "../../base/index.ts";
import type { Forward, Route, VirtualHost, WeightedCluster } from "../config/route.ts";
import type { ResponseFlag } from "../l4/access-log.ts";
import { Account } from "./account.ts";
import { affinityOf } from "./affinity.ts";
import { Attempts, type Trier } from "./attempts.ts";
import { type Headers, removeHeader, setHeader } from "./headers.ts";
import {
  type Downstream,
  type DownstreamHandler,
  Refusal,
  type RequestHead,
  type ResetKind,
  type ResponseHead,
  type UpstreamStream,
} from "./message.ts";
import { Copies, chooseMirrors } from "./mirror.ts";
import { outcomeOf } from "./outcome.ts";
import { findCluster, rewriteRequest, timeoutOf } from "./outgoing.ts";
import { Patience } from "./patience.ts";
import type { ClusterPool } from "./pool.ts";
import { messageOf, type Reply } from "./reply.ts";
import { RequestBody } from "./request-body.ts";
import { addResponseFields } from "./response-fields.ts";
import { redirectOf, routeRequest } from "./route-request.ts";
import type { Served } from "./serve-http.ts";

/**
 * One request from its head to the last byte of its answer. It is routed (`route-request.ts`), rewritten (`outgoing.ts`),
 * tried at its cluster (`attempts.ts`), answered, and told of (`account.ts`). The codecs on both sides call it; it holds
 * no socket.
 */
export class Exchange implements DownstreamHandler, Trier {
  readonly #served: Served;
  readonly #down: Downstream;
  readonly #request: RequestHead;
  readonly #account: Account;
  readonly #body: RequestBody;
  #copies: Copies | undefined;
  #virtualHost: VirtualHost | undefined;
  #action: Forward | undefined;
  #weighted: WeightedCluster | undefined;
  #cors: Headers | undefined;
  /** Has the caller come back to the same endpoint. */
  #setCookie: string | undefined;
  /** Set while the request is counted among those of its cluster. */
  #pool: ClusterPool | undefined;
  #attempts: Attempts | undefined;
  readonly #patience: Patience;
  /** After 101: plain bytes both ways. */
  #raw = false;
  #responseDone = false;
  #finished = false;

  constructor(served: Served, down: Downstream) {
    this.#served = served;
    this.#down = down;
    this.#request = down.request;
    this.#account = new Account(served, down.request);
    this.#body = new RequestBody(down);
    this.#patience = new Patience(served.service.http.clock);
    down.handler = this;
  }

  start(): void {
    try {
      this.#begin();
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught;
      const { status, message, details } = caught;
      this.#reply({ status, body: message, details, flags: ["DPE"], close: true });
    }
  }

  // ---- before an endpoint is chosen

  #begin(): void {
    const { http, manager } = this.#served.service;
    const routed = routeRequest(this.#request, this.#served);
    this.#account.route = routed.route;
    if (routed.kind === "reply") {
      this.#reply(routed.reply);
      return;
    }
    const { route } = routed;
    this.#virtualHost = routed.virtualHost;
    this.#cors = routed.cors;
    const delay = (route.fault ?? manager.fault)?.delay;
    if (!delay || http.random() >= delay.fraction) {
      this.#act(route);
      return;
    }
    this.#account.flag("DI");
    this.#down.pauseBody();
    this.#patience.delay(delay.ms, () => {
      this.#down.resumeBody();
      this.#act(route);
    });
  }

  #act(route: Route): void {
    const { service, forwarding } = this.#served;
    const abort = (route.fault ?? service.manager.fault)?.abort;
    const { action } = route;
    if (abort && service.http.random() < abort.fraction) {
      const { status, grpcStatus } = abort;
      this.#reply({ status, body: "fault filter abort", details: "fault_filter_abort", flags: ["FI"], grpcStatus });
    } else if (action.kind === "direct") {
      this.#reply({ status: action.status, body: action.body, details: "direct_response", exact: true });
    } else if (action.kind === "redirect") {
      this.#reply(redirectOf(action, { request: this.#request, route, scheme: forwarding.scheme }));
    } else {
      this.#forward(route, action);
    }
  }

  #forward(route: Route, action: Forward): void {
    const request = this.#request;
    const { service, connection } = this.#served;
    const { http } = service;
    if (request.upgrade !== undefined && action.upgrades.get(request.upgrade) === false) request.upgrade = undefined;
    this.#body.expect(request);
    const found = findCluster(request, { route, action, http });
    this.#account.cluster = found.kind === "reply" ? found.cluster : found.upstream.name;
    if (found.kind === "reply") {
      this.#reply(found.reply);
      return;
    }
    const { upstream, pool, weighted } = found;
    this.#account.clusterMetadata = upstream.metadata;
    pool.active++;
    this.#pool = pool;
    this.#action = action;
    this.#weighted = weighted;
    const affinity =
      action.hash.length > 0
        ? affinityOf(action.hash, { request, remoteIp: connection.remote.ip, random: http.random })
        : undefined;
    this.#setCookie = affinity?.setCookie;
    // From here on the request is the one that goes out.
    rewriteRequest(request, { route, action, weighted, account: this.#account });
    if (action.mirrors.length > 0) this.#mirror(chooseMirrors(action.mirrors, http.random));
    const timeoutMs = timeoutOf(request, action);
    this.#patience.forWhole(timeoutMs, () => this.#timedOut(timeoutMs));
    this.#patience.forMoving(action.idleTimeoutMs, () => this.#stoodStill(action.idleTimeoutMs!));
    const announce = this.#virtualHost?.includeAttemptCount === true;
    const attempts = new Attempts({
      served: this.#served,
      request,
      upstream,
      pool,
      retry: action.retry,
      hash: affinity?.hash,
      announce,
      trier: this,
    });
    this.#attempts = attempts;
    this.#account.attempts = attempts;
    attempts.start();
  }

  #mirror(clusters: readonly string[]): void {
    if (clusters.length === 0) return;
    const copies = new Copies(this.#served, { request: this.#request, clusters, body: this.#body.kept });
    if (this.#body.done) copies.send();
    else this.#copies = copies;
  }

  // ---- the request on its way: called by the downstream codec and by the attempts

  get replayable(): boolean {
    return this.#body.replayable && this.#account.response === undefined;
  }

  onSent(stream: UpstreamStream): void {
    if (this.#request.hasBody) this.#body.sendTo(stream);
  }

  onRequestData(chunk: Buffer): void {
    this.#account.bytesReceived += chunk.length;
    if (this.#finished) return;
    this.#patience.moved();
    this.#copies?.take(chunk);
    this.#body.take(chunk, this.#attempts?.stream);
  }

  onRequestEnd(trailers: Headers | undefined): void {
    if (this.#finished) return;
    this.#copies?.send();
    this.#copies = undefined;
    this.#body.end(trailers, this.#attempts?.stream);
    if (this.#raw && this.#responseDone) this.#finish();
  }

  onUpstreamDrain(): void {
    this.#body.resume();
  }

  onDownstreamDrain(): void {
    this.#attempts?.stream?.resume();
  }

  onDownstreamReset(flag: ResponseFlag, details: string): void {
    if (this.#finished) return;
    this.#account.flag(flag);
    this.#account.details = details;
    this.#attempts?.abandon("cancelled");
    this.#finish();
  }

  // ---- the answer: called by the upstream codec

  onInformational(status: number, headers: Headers): void {
    this.#down.informational(status, headers);
  }

  onResponse(head: ResponseHead, end: boolean): void {
    const attempts = this.#attempts!;
    const outcome = outcomeOf(head.status, head.headers);
    attempts.heard();
    if (this.#action?.retry) {
      const decided = attempts.retriesResponse(head, { outcome, whole: end });
      if (decided === "retried") return;
      if (decided === "exhausted") this.#account.flag("URX");
      else if (decided === "overflowed") this.#account.flag("UO");
    }
    this.#account.response = head;
    this.#account.details = "via_upstream";
    this.#body.answered();
    if (head.status === 101) {
      this.#raw = true;
      this.#patience.endless();
    }
    attempts.answered(outcome);
    this.#respond(head, end);
    if (end) this.#responseEnded();
  }

  onResponseData(chunk: Buffer): void {
    if (this.#finished) return;
    this.#account.bytesSent += chunk.length;
    this.#patience.moved();
    if (!this.#down.data(chunk)) this.#attempts?.stream?.pause();
  }

  onResponseEnd(trailers: Headers | undefined): void {
    if (this.#finished) return;
    this.#down.end(this.#raw ? undefined : trailers);
    this.#responseEnded();
  }

  #responseEnded(): void {
    this.#responseDone = true;
    // Of plain bytes the other way may go on.
    if (this.#raw && !this.#body.done) return;
    if (!this.#raw) this.#attempts!.stream = undefined;
    this.#finish();
  }

  onUpstreamReset(kind: ResetKind, failure: Failure): void {
    if (this.#finished) return;
    const attempts = this.#attempts!;
    if (!this.#account.response) {
      attempts.reset(kind, failure);
      return;
    }
    attempts.stream = undefined;
    const where = `cluster "${this.#account.cluster}": endpoint "${attempts.endpoint?.key}"`;
    this.#account.failure = `${where}: ${failure.message}`;
    this.#cut("UC", `upstream_reset_after_response_started{${kind}}`);
  }

  // ---- what goes back

  /** Sends the head of an upstream's answer. */
  #respond(head: ResponseHead, end: boolean): void {
    const { headers } = head;
    const attempts = this.#attempts!;
    const tookMs = this.#served.service.http.clock.monotonic() - attempts.startedMs;
    removeHeader(headers, "x-envoy-upstream-service-time");
    headers.push("x-envoy-upstream-service-time", String(Math.round(tookMs)));
    if (this.#virtualHost?.includeAttemptCountInResponse)
      setHeader(headers, "x-envoy-attempt-count", String(attempts.count));
    if (this.#setCookie !== undefined) headers.push("set-cookie", this.#setCookie);
    this.#account.status = head.status;
    this.#ourFields(headers);
    this.#down.respond(head, end);
  }

  #ourFields(headers: Headers): void {
    addResponseFields(headers, {
      served: this.#served,
      account: this.#account,
      weighted: this.#weighted,
      cors: this.#cors,
    });
  }

  giveUp(reply: Reply, failure?: string): void {
    this.#account.failure = failure;
    this.#reply(reply);
  }

  /** Answers from here. */
  #reply(reply: Reply): void {
    if (this.#finished) return;
    const { head, body } = messageOf(reply, this.#request);
    this.#account.details = reply.details;
    for (const flag of reply.flags ?? []) this.#account.flag(flag);
    this.#account.response = head;
    this.#account.status = head.status;
    this.#ourFields(head.headers);
    this.#down.respond(head, body === undefined);
    if (body) {
      this.#account.bytesSent += body.length;
      this.#down.data(body);
      this.#down.end(undefined);
    }
    this.#finish();
  }

  /** An answer that cannot be finished: the client must see that. */
  #cut(flag: ResponseFlag, details: string): void {
    this.#account.flag(flag);
    this.#account.details = details;
    this.#down.handler = undefined;
    this.#down.reset();
    this.#finish();
  }

  /** Time is up: the answer that has begun is cut, any other request is told so. */
  #late(flag: ResponseFlag, details: string, why: string): void {
    this.#attempts?.abandon("gateway-error");
    if (this.#account.response) this.#cut(flag, details);
    else this.#reply({ status: 504, body: why, details, flags: [flag] });
  }

  #timedOut(ms: number): void {
    const endpoint = this.#attempts?.endpoint;
    const where = endpoint ? ` from endpoint "${endpoint.key}"` : "";
    const what = `cluster "${this.#account.cluster}": no whole response${where} within ${ms} ms`;
    this.#late("UT", "response_timeout", `upstream request timeout: ${what}`);
  }

  #stoodStill(ms: number): void {
    const what = `cluster "${this.#account.cluster}": nothing moved for ${ms} ms`;
    this.#late("SI", "stream_idle_timeout", `stream idle timeout: ${what}`);
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#patience.end();
    this.#body.forget();
    this.#attempts?.close({ raw: this.#raw });
    if (this.#pool) this.#pool.active--;
    this.#account.close();
  }
}
