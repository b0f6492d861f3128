import { tellRefused } from "./account.ts";
import { Exchange } from "./exchange.ts";
import type { Headers } from "./headers.ts";
import {
  type Counted,
  codes,
  type FieldBlock,
  Http2Connection,
  type Http2Stream,
  type StreamEnd,
  type StreamHandler,
} from "./http2/index.ts";
import { blockOf, Malformed, readRequest, readTrailers } from "./http2-headers.ts";
import {
  type Downstream,
  type DownstreamHandler,
  limits,
  Refusal,
  type RequestHead,
  type ResponseHead,
} from "./message.ts";
import type { Served } from "./serve-http.ts";
import type { Swept } from "./sweeper.ts";

/**
 * What a client may do on one connection in ten seconds before it is told to calm down (GOAWAY ENHANCE_YOUR_CALM):
 * streams reset before their answer was whole, pings, settings, DATA without any. Honest clients stay far below.
 */
const calm: Readonly<Record<Counted, number>> = { reset: 200, ping: 100, settings: 50, empty: 1000 };
const calmWindowMs = 10_000;

/** After how long without a request a client is sent a ping, and how long it has to answer it, in milliseconds. */
const lively = { quietMs: 15_000, answerMs: 15_000 } as const;

/** How long a client has to close after the last word, in milliseconds. */
const lingerMs = 1000;

/** What is received of one stream, and of all together, before it must have been used. In bytes. */
const windows = { stream: 256 * 1024, connection: 1024 * 1024 } as const;

/** Serves one HTTP/2 connection; resolves when it is gone. */
export function serveHttp2(served: Served): Promise<void> {
  const { connection, service } = served;
  const { sweeper } = service.http;
  const { socket } = connection;
  return new Promise((resolve) => {
    const server = new Http2Server(served);
    sweeper.add(server);
    const onDrain = () => server.drain();
    const onAbort = () => server.destroy();
    socket.once("close", () => {
      sweeper.delete(server);
      connection.draining.removeEventListener("abort", onDrain);
      connection.signal.removeEventListener("abort", onAbort);
      resolve();
    });
    connection.draining.addEventListener("abort", onDrain);
    connection.signal.addEventListener("abort", onAbort);
    server.start();
    if (connection.draining.aborted) onDrain();
    if (connection.signal.aborted) onAbort();
  });
}

/** How far the end of a connection has come. */
type Ending =
  | { readonly kind: "no" }
  /** Told to open no more streams; what was on its way then is served, until its answer to a ping says that all came. */
  | { readonly kind: "told"; readonly sinceMs: number }
  /** No stream is begun any more; those that run are finished. */
  | { readonly kind: "last" }
  /** All is said. */
  | { readonly kind: "lingering"; readonly sinceMs: number };

/** The server side of one HTTP/2 connection. */
class Http2Server implements Swept {
  readonly #served: Served;
  readonly #http2: Http2Connection;
  readonly #now: () => number;
  #ending: Ending = { kind: "no" };
  #requests = 0;
  #idleSinceMs: number;
  #quietSinceMs: number;
  /** A ping is out. */
  #asked = false;
  #countedSinceMs: number;
  readonly #counted: Record<Counted, number> = { reset: 0, ping: 0, settings: 0, empty: 0 };

  constructor(served: Served) {
    const { connection, service } = served;
    const { manager, http } = service;
    this.#served = served;
    this.#now = () => http.clock.monotonic();
    this.#idleSinceMs = this.#quietSinceMs = this.#countedSinceMs = this.#now();
    this.#http2 = new Http2Connection({
      side: "server",
      socket: connection.socket,
      maxStreams: manager.maxStreams,
      windows,
      head: { bytes: manager.maxHeadBytes, fields: limits.fields + 10 },
      events: {
        onStream: (stream, block, end) => this.#onStream(stream, block, end),
        onSettings() {},
        onPong: () => this.#onPong(),
        onGoaway: () => this.#finish(),
        onCounted: (what) => this.#count(what),
        onStreamClosed: () => this.#onStreamClosed(),
        onEnded: (why, broken) => {
          this.#ending = { kind: "lingering", sinceMs: this.#now() };
          const { listener, remote } = connection;
          if (broken) http.log.debug({ listener, remote, why }, "HTTP/2 connection ended for what its client did");
        },
      },
    });
  }

  start(): void {
    this.#http2.start();
  }

  /** Finishes what runs and what is on its way, and takes nothing new. */
  drain(): void {
    if (this.#ending.kind !== "no") return;
    this.#ending = { kind: "told", sinceMs: this.#now() };
    this.#http2.goaway("any");
    this.#asked = true;
    this.#quietSinceMs = this.#now();
    this.#http2.ping();
  }

  destroy(): void {
    this.#http2.destroy();
  }

  onSweep(now: number): void {
    const http2 = this.#http2;
    const ending = this.#ending;
    if (ending.kind === "lingering") {
      if (now - ending.sinceMs >= lingerMs) http2.destroy();
      return;
    }
    if (this.#asked) {
      if (now - this.#quietSinceMs >= lively.answerMs) http2.destroy();
      return;
    }
    if (http2.active > 0) return;
    const { idleTimeoutMs } = this.#served.service.manager;
    if (idleTimeoutMs > 0 && now - this.#idleSinceMs >= idleTimeoutMs) this.drain();
    // A client may be gone without a word.
    else if (now - Math.max(this.#quietSinceMs, this.#idleSinceMs) >= lively.quietMs) {
      this.#asked = true;
      this.#quietSinceMs = now;
      http2.ping();
    }
  }

  #onStream(stream: Http2Stream, block: FieldBlock, end: boolean): void {
    const served = this.#served;
    try {
      if (block.kind === "too-large") {
        const what = `the request head is larger than ${served.service.manager.maxHeadBytes} bytes or has more than ${limits.fields} fields`;
        throw new Refusal(431, "request_headers_too_large", what);
      }
      if (block.kind === "malformed") throw new Malformed("a field with characters that none may have");
      const request = readRequest(block.fields, end);
      new Exchange(served, new Http2Downstream(stream, request)).start();
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught;
      tellRefused(served, caught);
      if (!(caught instanceof Malformed)) {
        stream.fields([":status", String(caught.status), "content-type", "text/plain"], false);
        stream.data(Buffer.from(`${caught.message}\n`));
        stream.end(undefined);
      }
      // What follows of it is not wanted, and it counts.
      if (!stream.closed) stream.reset(codes.protocolError);
    }
    const { maxRequestsPerConnection } = served.service.manager;
    if (maxRequestsPerConnection !== undefined && ++this.#requests >= maxRequestsPerConnection) this.drain();
  }

  #onStreamClosed(): void {
    this.#idleSinceMs = this.#now();
    if (this.#ending.kind === "last" && this.#http2.active === 0) this.#http2.close();
  }

  #onPong(): void {
    this.#asked = false;
    this.#quietSinceMs = this.#now();
    if (this.#ending.kind === "told") this.#finish();
  }

  /** No other stream is begun. */
  #finish(): void {
    if (this.#ending.kind !== "no" && this.#ending.kind !== "told") return;
    this.#ending = { kind: "last" };
    if (this.#http2.active === 0) this.#http2.close();
    else this.#http2.goaway("seen");
  }

  #count(what: Counted): void {
    const now = this.#now();
    const counted = this.#counted;
    if (now - this.#countedSinceMs > calmWindowMs) {
      this.#countedSinceMs = now;
      counted.reset = counted.ping = counted.settings = counted.empty = 0;
    }
    if (++counted[what] > calm[what]) this.#http2.fail(codes.enhanceYourCalm, `too many of one kind: ${what}`);
  }
}

/** One HTTP/2 request and its answer. */
class Http2Downstream implements Downstream, StreamHandler {
  readonly request: RequestHead;
  handler: DownstreamHandler | undefined;
  readonly #stream: Http2Stream;
  #answer: "none" | "head" | "whole" = "none";
  #received = 0;

  constructor(stream: Http2Stream, request: RequestHead) {
    this.#stream = stream;
    this.request = request;
    stream.handler = this;
  }

  // ---- StreamHandler

  onFields(block: FieldBlock, end: boolean): void {
    // Only trailers can follow, and they end the request.
    const trailers = end && block.kind === "fields" ? readTrailers(block.fields) : undefined;
    if (trailers) this.#end(trailers);
    else this.#malformed("http2.invalid_trailers");
  }

  onData(bytes: Buffer): void {
    this.#received += bytes.length;
    const { contentLength } = this.request;
    // What is longer than it said would be a second request on an HTTP/1.1 connection behind us.
    if (contentLength >= 0 && this.#received > contentLength) this.#malformed("http2.content_length_mismatch");
    else if (this.#answer !== "whole") this.handler?.onRequestData(bytes);
    else if (this.#received > limits.discardBytes) this.#stream.reset(codes.noError);
  }

  onEnd(): void {
    this.#end(undefined);
  }

  onDrain(): void {
    this.handler?.onDownstreamDrain();
  }

  onClosed(end: StreamEnd): void {
    const { handler } = this;
    this.handler = undefined;
    if (this.#answer === "whole") return;
    if (end.kind === "lost" && end.broken) handler?.onDownstreamReset("DPE", "http2.protocol_error");
    else handler?.onDownstreamReset("DC", "downstream_remote_disconnect");
  }

  #end(trailers: Headers | undefined): void {
    const { contentLength } = this.request;
    if (contentLength >= 0 && this.#received !== contentLength) this.#malformed("http2.content_length_mismatch");
    else this.handler?.onRequestEnd(trailers && trailers.length > 0 ? trailers : undefined);
  }

  #malformed(details: string): void {
    const { handler } = this;
    this.handler = undefined;
    this.#stream.reset(codes.protocolError);
    handler?.onDownstreamReset("DPE", details);
  }

  // ---- Downstream

  pauseBody(): void {
    this.#stream.pause();
  }

  resumeBody(): void {
    this.#stream.resume();
  }

  informational(status: number, headers: Headers): void {
    if (this.#answer === "none") this.#stream.fields(blockOf([":status", String(status)], headers, -1), false);
  }

  respond(head: ResponseHead, end: boolean): void {
    if (this.#answer !== "none") return;
    this.#answer = "head";
    const length = head.status === 204 ? -1 : head.contentLength;
    this.#stream.fields(blockOf([":status", String(head.status)], head.headers, length), end);
    if (end) this.#answered();
  }

  data(chunk: Buffer): boolean {
    return this.#stream.data(chunk);
  }

  end(trailers: Headers | undefined): void {
    if (this.#answer === "whole") return;
    this.#stream.end(trailers && blockOf([], trailers, -1));
    this.#answered();
  }

  reset(): void {
    this.handler = undefined;
    this.#answer = "whole";
    this.#stream.reset(codes.internalError);
  }

  #answered(): void {
    this.#answer = "whole";
    this.handler = undefined;
    // The answer is whole though the request is not: what still comes is read and dropped, for a while.
    this.#received = 0;
    this.#stream.resume();
  }
}
