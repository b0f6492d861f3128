import type { ResponseFlag } from "../l4/access-log.ts";
import type { Headers } from "./headers.ts";
import type { RequestHead, ResponseHead } from "./message.ts";
import { isGrpc } from "./route-match.ts";

/** An answer from here, not from an upstream. */
export interface Reply {
  readonly status: number;
  /** A sentence for whoever reads the answer; sent as it is, without a line feed, when `exact`. */
  readonly body: string | Buffer;
  /** A stable word for the access log. */
  readonly details: string;
  readonly flags?: readonly ResponseFlag[];
  readonly headers?: Headers;
  readonly exact?: boolean;
  /** Nothing more is taken on this connection. */
  readonly close?: boolean;
  readonly grpcStatus?: number | undefined;
}

/** Head and body of a reply. Those who speak gRPC read the status in its own field and nowhere else. */
export function messageOf(
  reply: Reply,
  request: RequestHead,
): { readonly head: ResponseHead; readonly body: Buffer | undefined } {
  const { status, body, exact } = reply;
  const headers: Headers = [...(reply.headers ?? [])];
  if (isGrpc(request.headers) && !(exact && status < 400)) {
    headers.push("content-type", "application/grpc");
    headers.push("grpc-status", String(reply.grpcStatus ?? grpcStatusOf(status)));
    headers.push("grpc-message", encodeURIComponent(body.toString()).replaceAll("%20", " "));
    const contentLength = request.version === "HTTP/2" ? -1 : 0;
    return { head: { status: 200, reason: "", headers, contentLength }, body: undefined };
  }
  const bytes = typeof body !== "string" ? body : Buffer.from(exact || body === "" ? body : `${body}\n`);
  const head: ResponseHead = { status, reason: "", headers, contentLength: bytes.length };
  if (reply.close) head.close = true;
  if (bytes.length > 0) headers.push("content-type", "text/plain");
  return { head, body: bytes.length === 0 || request.method === "HEAD" ? undefined : bytes };
}

/** The mapping that gRPC's own clients use for answers of HTTP. */
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
