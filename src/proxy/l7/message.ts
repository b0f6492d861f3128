import { Failure } from "../../base/index.ts";
import type { ResponseFlag } from "../l4/access-log.ts";
import type { UpstreamSocket } from "../upstream/upstream.ts";
import type { Headers } from "./headers.ts";

/** What is accepted of one message. Beyond it a request is answered 431, 414, 413 or 400 and the connection closed. */
export const limits = {
  /** Start line and fields together, in bytes; the same for trailers. `max_request_headers_kb` may lower it. */
  headBytes: 60 * 1024,
  fields: 100,
  targetBytes: 32 * 1024,
  /** Chunk extensions of one message together, in bytes. They are read and dropped. */
  chunkExtensionBytes: 16 * 1024,
  /** What is held of one message for a slow reader before its sender is paused, in bytes. */
  watermarkBytes: 64 * 1024,
  /** Informational answers before the final one. A server that sends more is no server of HTTP. */
  informational: 32,
  /** How much of a request body is kept so that it can be sent again, in bytes. */
  replayBytes: 64 * 1024,
  /** What is read and dropped of a request body after its answer has ended, in bytes, before the connection is cut. */
  discardBytes: 1024 * 1024,
} as const;

export type Version = "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";

/** A request, whatever it came by. `contentLength` is −1 when it is not told beforehand. */
export interface RequestHead {
  method: string;
  /** Origin form with the query, or `*`. */
  path: string;
  authority: string;
  version: Version;
  headers: Headers;
  contentLength: number;
  /** Whether a body may follow. */
  hasBody: boolean;
  /** The protocol that the client would change to, in lower case. */
  upgrade: string | undefined;
  expectContinue: boolean;
  /** The target was a whole URL, as for an explicit proxy. */
  absolute?: boolean;
}

/** `contentLength` is −1 when it is not told beforehand. */
export interface ResponseHead {
  status: number;
  /** Empty for the usual words. */
  reason: string;
  headers: Headers;
  contentLength: number;
  /** Set when nothing more is taken on this connection after it. */
  close?: true;
}

/** A message that is refused: the status that says so, and a stable word for the access log. */
export class Refusal extends Failure {
  readonly status: number;
  readonly details: string;

  constructor(status: number, details: string, message: string) {
    super(`http/${details.replaceAll("_", "-")}`, message);
    this.status = status;
    this.details = details;
  }
}

/** One request as the downstream codec offers it, and the way back. All calls are on the event loop, none waits. */
export interface Downstream {
  readonly request: RequestHead;
  handler: DownstreamHandler | undefined;
  pauseBody(): void;
  resumeBody(): void;
  informational(status: number, headers: Headers): void;
  /** Status 101 turns the stream into plain bytes both ways. */
  respond(head: ResponseHead, end: boolean): void;
  /** False asks for a pause until `onDownstreamDrain`. The bytes may be used otherwise after the call. */
  data(chunk: Buffer): boolean;
  end(trailers: Headers | undefined): void;
  /** Cuts the response off where it is: the client can tell that it is not whole. */
  reset(): void;
}

export interface DownstreamHandler {
  /** The bytes are the handler's for the length of the call only. */
  onRequestData(chunk: Buffer): void;
  onRequestEnd(trailers: Headers | undefined): void;
  /** The client went away, or broke the protocol, before its request or its answer was whole. */
  onDownstreamReset(flag: ResponseFlag, details: string): void;
  onDownstreamDrain(): void;
}

/** How an attempt ended without a whole response. */
export type ResetKind =
  /** The server has surely not begun on the request (REFUSED_STREAM, GOAWAY, or nothing was sent). */
  | "refused"
  /** The connection ended or the stream was reset. */
  | "reset"
  /** What came was no HTTP. */
  | "protocol";

export interface UpstreamHandler {
  onInformational(status: number, headers: Headers): void;
  onResponse(head: ResponseHead, end: boolean): void;
  /** The bytes are the handler's for the length of the call only. */
  onResponseData(chunk: Buffer): void;
  onResponseEnd(trailers: Headers | undefined): void;
  onUpstreamReset(kind: ResetKind, failure: Failure): void;
  onUpstreamDrain(): void;
}

/** A request on its way to an endpoint. */
export interface UpstreamStream {
  /** False asks for a pause until `onUpstreamDrain`. The bytes may be used otherwise after the call. */
  data(chunk: Buffer): boolean;
  end(trailers: Headers | undefined): void;
  reset(): void;
  pause(): void;
  resume(): void;
}

/** One connection that can carry requests to an endpoint. */
export interface ClientConnection {
  /** Whether a request was answered on it before: then its end before any answer may be mere idleness. */
  readonly reused: boolean;
  readonly socket: UpstreamSocket;
  start(request: RequestHead, handler: UpstreamHandler): UpstreamStream;
  /** Gives the connection back without having used it. */
  release(): void;
}
