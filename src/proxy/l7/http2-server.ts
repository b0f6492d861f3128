import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { writeKept } from "../l4/read-buffers.ts";
import { tellRefused } from "./account.ts";
import { Exchange } from "./exchange.ts";
import { type Headers, isFieldName, isFieldValue } from "./headers.ts";
import { fromNode, toNode } from "./http2-headers.ts";
import {
  type Downstream,
  type DownstreamHandler,
  limits,
  Refusal,
  type RequestHead,
  type ResponseHead,
} from "./message.ts";
import type { Served } from "./serve-http.ts";

/**
 * What a client may do on one connection in ten seconds before it is told to calm down (GOAWAY ENHANCE_YOUR_CALM):
 * streams reset before their answer was whole, pings, settings. Honest clients stay far below.
 */
const calm = { windowMs: 10_000, resets: 200, pings: 100, settings: 50 } as const;

/** After how long without a request a client is sent a ping, and how long it has to answer it, in milliseconds. */
const lively = { quietMs: 15_000, answerMs: 15_000 } as const;

const noAnswer = new Set([204, 205, 304]);
const methodForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const pathForm = /^[\x21\x22\x24-\x7e]+$/;
const authorityForm = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{1,5})?$/;

/** Serves one HTTP/2 connection; resolves when it is gone. */
export function serveHttp2(served: Served): Promise<void> {
  const { connection, service } = served;
  const { manager, http } = service;
  return new Promise((resolve) => {
    const session = performServerHandshake(
      connection.socket as Parameters<typeof performServerHandshake>[0],
      {
        maxHeaderListPairs: limits.fields + 10,
        maxSessionInvalidFrames: 50,
        maxSessionRejectedStreams: calm.resets,
        settings: {
          maxConcurrentStreams: manager.maxStreams,
          maxHeaderListSize: manager.maxHeadBytes,
          initialWindowSize: 256 * 1024,
          enablePush: false,
        },
      } as Parameters<typeof performServerHandshake>[1],
    );
    session.setLocalWindowSize(1024 * 1024);
    const guard = new Guard(session, () => http.clock.monotonic());
    let active = 0;
    let idleSince = http.clock.monotonic();
    let quietSince = idleSince;
    let asked = false;
    const swept = {
      onSweep(now: number) {
        // After a broken frame the codec says GOAWAY and reads nothing more, and tells us nothing of it; a client may be
        // gone without a word. Neither answers a ping.
        if (asked && now - quietSince >= lively.answerMs) session.destroy();
        else if (!asked && active === 0 && now - Math.max(quietSince, idleSince) >= lively.quietMs) {
          quietSince = now;
          asked = session.ping(() => {
            asked = false;
            quietSince = http.clock.monotonic();
          });
        }
        if (active === 0 && manager.idleTimeoutMs > 0 && now - idleSince >= manager.idleTimeoutMs) session.close();
      },
    };
    http.sweeper.add(swept);
    const onDrain = () => {
      if (!session.closed) session.close();
    };
    const onAbort = () => session.destroy();
    session.on("stream", (stream, headers, flags) => {
      active++;
      stream.once("close", () => {
        active--;
        idleSince = http.clock.monotonic();
        guard.closed(stream);
      });
      if (guard.tooMuch) return stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      onStream(served, stream, headers, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    });
    session.on("ping", () => guard.count("pings"));
    session.on("remoteSettings", () => guard.count("settings"));
    // What an error means is said by the close that follows it.
    session.on("error", () => {});
    connection.socket.on("error", () => {});
    // Sockets here may be half-open; a client of HTTP/2 that has ended its side can no longer ask for more of an answer.
    connection.socket.once("end", () => session.destroy());
    session.on("close", () => {
      http.sweeper.delete(swept);
      connection.draining.removeEventListener("abort", onDrain);
      connection.signal.removeEventListener("abort", onAbort);
      connection.socket.destroy();
      resolve();
    });
    if (connection.draining.aborted) onDrain();
    if (connection.signal.aborted) onAbort();
    connection.draining.addEventListener("abort", onDrain);
    connection.signal.addEventListener("abort", onAbort);
  });
}

/** Counts what costs us more than it costs the client. */
class Guard {
  tooMuch = false;
  readonly #session: ServerHttp2Session;
  readonly #now: () => number;
  #since: number;
  readonly #seen = { resets: 0, pings: 0, settings: 0 };

  constructor(session: ServerHttp2Session, now: () => number) {
    this.#session = session;
    this.#now = now;
    this.#since = now();
  }

  closed(stream: ServerHttp2Stream): void {
    if (stream.rstCode !== undefined && stream.rstCode !== constants.NGHTTP2_NO_ERROR) this.count("resets");
  }

  count(what: "resets" | "pings" | "settings"): void {
    const now = this.#now();
    if (now - this.#since > calm.windowMs) {
      this.#since = now;
      this.#seen.resets = this.#seen.pings = this.#seen.settings = 0;
    }
    if (++this.#seen[what] <= calm[what] || this.tooMuch) return;
    this.tooMuch = true;
    if (this.#session.destroyed) return;
    this.#session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

function onStream(served: Served, stream: ServerHttp2Stream, incoming: IncomingHttpHeaders, end: boolean): void {
  try {
    const request = readRequest(incoming, end);
    new Exchange(served, new Http2Downstream(stream, request)).start();
  } catch (caught) {
    if (!(caught instanceof Refusal)) throw caught;
    stream.on("error", () => {});
    tellRefused(served, caught);
    stream.respond({ ":status": caught.status, "content-type": "text/plain" });
    stream.end(`${caught.message}\n`);
  }
}

function readRequest(incoming: IncomingHttpHeaders, end: boolean): RequestHead {
  const { headers, contentLength } = fromNode(incoming);
  const method = incoming[":method"] ?? "";
  const host = incoming["host"];
  const authority = incoming[":authority"] ?? host ?? "";
  const path = incoming[":path"] ?? (method === "CONNECT" ? authority : "");
  const refuse = (message: string): never => {
    throw new Refusal(400, "http2.codec_error", message);
  };
  if (!methodForm.test(method)) refuse("the method is no token");
  if (path.length > limits.targetBytes)
    throw new Refusal(414, "uri_too_long", `the path is longer than ${limits.targetBytes} bytes`);
  if (method !== "CONNECT" && (!pathForm.test(path) || (path[0] !== "/" && !(path === "*" && method === "OPTIONS"))))
    refuse("the path is none");
  if (authority === "" || !authorityForm.test(authority)) refuse("the authority is no host with an optional port");
  if (host !== undefined && host.toLowerCase() !== authority.toLowerCase()) refuse("the host and the authority differ");
  if (contentLength !== -1 && !(Number.isSafeInteger(contentLength) && contentLength >= 0))
    refuse("content-length is not a number of bytes");
  let list: Headers = [];
  let cookies = "";
  let expectContinue = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const value = headers[i + 1]!;
    if (!isFieldName(name) || !isFieldValue(value)) refuse("a field that HTTP/1 could not hold");
    switch (name) {
      case "host":
        break;
      case "expect":
        expectContinue = value.toLowerCase() === "100-continue" && !end;
        break;
      case "cookie":
        // HTTP/2 may split it; HTTP/1 may not (RFC 9113 §8.2.3).
        cookies = cookies === "" ? value : `${cookies}; ${value}`;
        break;
      case "te":
        if (value.toLowerCase() === "trailers") list.push(name, "trailers");
        break;
      default:
        list.push(name, value);
    }
  }
  if (cookies !== "") list = [...list, "cookie", cookies];
  return {
    method,
    path,
    authority,
    version: "HTTP/2",
    headers: list,
    contentLength: end ? -1 : contentLength,
    hasBody: !end,
    upgrade: undefined,
    expectContinue,
  };
}

/** One HTTP/2 request and its answer. */
class Http2Downstream implements Downstream {
  readonly request: RequestHead;
  handler: DownstreamHandler | undefined;
  readonly #stream: ServerHttp2Stream;
  #answerEnded = false;
  #requestEnded: boolean;
  #received = 0;
  #outgoing: Headers | undefined;

  constructor(stream: ServerHttp2Stream, request: RequestHead) {
    this.#stream = stream;
    this.request = request;
    this.#requestEnded = !request.hasBody;
    let trailers: Headers | undefined;
    stream.on("trailers", (incoming) => {
      const list = fromNode(incoming).headers;
      trailers = list.some((text, i) => (i % 2 === 0 ? !isFieldName(text) : !isFieldValue(text))) ? undefined : list;
    });
    stream.on("data", (chunk: Buffer) => {
      this.#received += chunk.length;
      // What is longer than it said would be a second request on an HTTP/1.1 connection behind us.
      if (request.contentLength >= 0 && this.#received > request.contentLength) this.#malformed();
      else this.handler?.onRequestData(chunk);
    });
    stream.on("end", () => {
      if (this.#requestEnded || stream.aborted || (stream.rstCode ?? 0) !== 0) return;
      if (request.contentLength >= 0 && this.#received !== request.contentLength) {
        this.#malformed();
        return;
      }
      this.#requestEnded = true;
      this.handler?.onRequestEnd(trailers);
    });
    stream.on("wantTrailers", () => {
      // Without any, Node ends the stream with an empty DATA frame.
      stream.sendTrailers(toNode([], this.#outgoing ?? [], -1, false));
    });
    stream.on("drain", () => this.handler?.onDownstreamDrain());
    // What an error means is said by the close that follows it.
    stream.on("error", () => {});
    stream.on("close", () => {
      const { handler } = this;
      this.handler = undefined;
      if (!this.#answerEnded) handler?.onDownstreamReset("DC", "downstream_remote_disconnect");
    });
  }

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    this.#stream.resume();
  }

  informational(status: number, headers: Headers): void {
    if (!this.#stream.headersSent && !this.#stream.destroyed)
      this.#stream.additionalHeaders(toNode([":status", String(status)], headers, -1, false));
  }

  respond(head: ResponseHead, end: boolean): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.headersSent) return;
    if (end) this.#ended();
    const bodyless = this.request.method === "HEAD" || noAnswer.has(head.status);
    const length = head.status === 204 ? -1 : head.contentLength;
    try {
      stream.respond(toNode([":status", String(head.status)], head.headers, length, false), {
        endStream: end,
        waitForTrailers: !end && !bodyless,
      });
    } catch (caught) {
      // Node refuses fields that HTTP/1.1 allows; the client must not take what follows for an answer.
      if (!String((caught as NodeJS.ErrnoException).code).startsWith("ERR_HTTP2_")) throw caught;
      if (!stream.closed) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  data(chunk: Buffer): boolean {
    const stream = this.#stream;
    if (stream.destroyed || stream.writableEnded) return true;
    return writeKept(stream, chunk);
  }

  end(trailers: Headers | undefined): void {
    this.#ended();
    this.#outgoing = trailers;
    if (!this.#stream.destroyed) this.#stream.end();
  }

  reset(): void {
    this.handler = undefined;
    this.#answerEnded = true;
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  #malformed(): void {
    const { handler } = this;
    this.handler = undefined;
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
    handler?.onDownstreamReset("DPE", "http2.content_length_mismatch");
  }

  #ended(): void {
    this.#answerEnded = true;
    this.handler = undefined;
    // The answer is whole though the request is not: what still comes is read and dropped.
    if (!this.#requestEnded) this.#stream.resume();
  }
}
