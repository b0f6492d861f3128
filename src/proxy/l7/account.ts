import type { Route } from "../config/route.ts";
import type { AccessRecord, ResponseFlag } from "../l4/access-log.ts";
import { textOf } from "../l4/access-log-format.ts";
import type { Attempts } from "./attempts.ts";
import { headerValue } from "./headers.ts";
import type { Refusal, RequestHead, ResponseHead } from "./message.ts";
import { requestField } from "./route-match.ts";
import type { Served } from "./serve-http.ts";

const noFlags: readonly ResponseFlag[] = [];

/** What is known of one request so far: for its record, for the metrics, and for headers that speak of it. */
export class Account {
  readonly request: RequestHead;
  /** As the client sent them: rewriting comes later. */
  readonly path: string;
  readonly authority: string;
  route: Route | undefined;
  cluster: string | undefined;
  clusterMetadata: AccessRecord["upstreamMetadata"];
  attempts: Attempts | undefined;
  response: ResponseHead | undefined;
  /** Of the answer, from when it has begun. */
  status: number | undefined;
  flags: readonly ResponseFlag[] = noFlags;
  /** A stable word for what happened. */
  details: string | undefined;
  /** In a sentence, what failed. */
  failure: string | undefined;
  bytesReceived = 0;
  bytesSent = 0;
  readonly #served: Served;
  readonly #started: number;

  constructor(served: Served, request: RequestHead) {
    const { http } = served.service;
    this.request = request;
    this.path = request.path;
    this.authority = request.authority;
    this.#served = served;
    this.#started = http.clock.monotonic();
    http.metrics.begin();
  }

  flag(flag: ResponseFlag): void {
    this.flags = [...this.flags, flag];
  }

  /** The request is over: counts it and logs it. */
  close(): void {
    const { http, accessLog } = this.#served.service;
    const durationMs = http.clock.monotonic() - this.#started;
    http.metrics.end(this.status, this.flags, durationMs);
    accessLog?.write(this.#record(durationMs));
  }

  /** A header's value that a route sets, its command operators by what they stand for now. */
  substituted(template: string): string {
    const record = this.#record(this.#served.service.http.clock.monotonic() - this.#started);
    return textOf(template, record);
  }

  #record(durationMs: number): AccessRecord {
    const { connection, service, forwarding } = this.#served;
    const { request, response, attempts } = this;
    const upstream = attempts?.connection?.socket;
    return {
      startMs: service.http.clock.now() - durationMs,
      durationMs,
      listener: connection.listener,
      protocol: request.version,
      method: request.method,
      authority: this.authority,
      path: this.path,
      responseCode: this.status,
      flags: this.flags,
      details: this.details,
      upstreamFailure: this.failure,
      bytesReceived: this.bytesReceived,
      bytesSent: this.bytesSent,
      routeName: this.route?.name,
      upstreamCluster: this.cluster,
      upstreamMetadata: this.clusterMetadata,
      upstreamHost: attempts?.endpoint?.address,
      upstreamLocal: upstream?.local,
      upstreamPeerUri: upstream?.tls?.peer?.uris[0],
      attempts: attempts?.count ?? 0,
      downstreamRemote: connection.remote,
      downstreamLocal: connection.destination,
      sni: connection.sni,
      tls: connection.tls,
      requestHeader: (name) => requestField(request, forwarding.scheme, name),
      responseHeader: (name) => (response ? responseField(response, name) : undefined),
    };
  }
}

/** Counts and logs a request that was refused before it could be understood. */
export function tellRefused({ connection, service }: Served, refusal: Refusal): void {
  const { http, accessLog } = service;
  http.metrics.begin();
  http.metrics.end(refusal.status, ["DPE"], 0);
  accessLog?.write({
    startMs: http.clock.now(),
    durationMs: 0,
    listener: connection.listener,
    protocol: undefined,
    method: undefined,
    authority: undefined,
    path: undefined,
    responseCode: refusal.status,
    flags: ["DPE"],
    details: refusal.details,
    upstreamFailure: refusal.message,
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
    requestHeader: () => undefined,
    responseHeader: () => undefined,
  });
}

function responseField(head: ResponseHead, name: string): string | undefined {
  if (name === ":status") return String(head.status);
  if (name === "content-length") return head.contentLength < 0 ? undefined : String(head.contentLength);
  return headerValue(head.headers, name);
}
