import { type Clock, Failure } from "../../base/index.ts";
import type { UpstreamSocket } from "../upstream/upstream.ts";
import type { Headers } from "./headers.ts";
import {
  codes,
  type FieldBlock,
  Http2Connection,
  type Http2Stream,
  type StreamEnd,
  type StreamHandler,
} from "./http2/index.ts";
import { blockOf, readResponse, readTrailers } from "./http2-headers.ts";
import {
  type ClientConnection,
  limits,
  type RequestHead,
  type ResetKind,
  type UpstreamHandler,
  type UpstreamStream,
} from "./message.ts";

/** How long a new connection may take to say its settings, and one that has said all to go, in milliseconds. */
const settingsTimeoutMs = 10_000;
const lingerMs = 1000;

/** What is received of one stream, and of all together, before it must have been used. In bytes. */
const windows = { stream: 256 * 1024, connection: 1024 * 1024 } as const;

/** Streams that are open at once on one connection, at most. */
const mostStreams = 1000;

/** The client side of one HTTP/2 connection. */
export class Http2ClientConnection implements ClientConnection {
  readonly socket: UpstreamSocket;
  readonly #http2: Http2Connection;
  readonly #clock: Clock;
  reused = false;
  requests = 0;
  /** When it was made, monotonic. */
  bornMs = 0;
  /** Since when no stream is open; 0 while one is. */
  idleSinceMs: number;
  #draining = false;

  private constructor(
    socket: UpstreamSocket,
    clock: Clock,
    told: { readonly onSettings: () => void; readonly onEnded: (why: string) => void },
  ) {
    this.socket = socket;
    this.#clock = clock;
    this.idleSinceMs = clock.monotonic();
    this.#http2 = new Http2Connection({
      side: "client",
      socket: socket.socket,
      maxStreams: 0,
      windows,
      head: { bytes: limits.headBytes, fields: limits.fields + 10 },
      events: {
        onStream() {},
        onSettings: told.onSettings,
        onPong() {},
        onGoaway: () => this.drain(),
        onCounted() {},
        onStreamClosed: () => this.#onStreamClosed(),
        onEnded: (why) => {
          const lingering = clock.after(lingerMs, () => socket.socket.destroy(), { background: true });
          socket.socket.once("finish", () => socket.socket.destroy());
          socket.socket.once("close", () => lingering.cancel());
          told.onEnded(why);
        },
      },
    });
  }

  /** Resolves when the server has said its settings: only then is it known how many streams it takes. */
  static open(
    socket: UpstreamSocket,
    clock: Clock,
    onClosed: (closed: Http2ClientConnection) => void,
  ): Promise<Http2ClientConnection> {
    return new Promise((resolve, reject) => {
      const timer = clock.after(
        settingsTimeoutMs,
        () => {
          reject(new Failure("upstream/http2-settings", `no HTTP/2 settings within ${settingsTimeoutMs} ms`));
          connection.close();
        },
        { background: true },
      );
      const connection: Http2ClientConnection = new Http2ClientConnection(socket, clock, {
        onSettings: () => {
          timer.cancel();
          resolve(connection);
        },
        onEnded: (why) => {
          timer.cancel();
          reject(new Failure("upstream/http2", `${why} before HTTP/2 settings came`));
          onClosed(connection);
        },
      });
      connection.#http2.start();
    });
  }

  /** Streams that are open. */
  get active(): number {
    return this.#http2.active;
  }

  get usable(): boolean {
    return !this.#draining && this.#http2.open;
  }

  get maxStreams(): number {
    return Math.min(this.#http2.peerMaxStreams, mostStreams);
  }

  start(request: RequestHead, handler: UpstreamHandler): UpstreamStream {
    this.requests++;
    if (!this.#http2.open) {
      // The connection ended between the choice and the use, or its identifiers are used up: nothing has been sent.
      this.drain();
      const failure = new Failure("upstream/http2", "the connection takes no more streams before any response");
      queueMicrotask(() => handler.onUpstreamReset("refused", failure));
      return unsent;
    }
    const { method, authority, path } = request;
    const pseudo =
      method === "CONNECT"
        ? [":method", method, ":authority", authority]
        : [":method", method, ":scheme", this.socket.tls ? "https" : "http", ":authority", authority, ":path", path];
    const fields = blockOf(pseudo, request.headers, request.contentLength);
    if (request.expectContinue) fields.push("expect", "100-continue");
    this.idleSinceMs = 0;
    return new Http2ClientStream(this.#http2.request(fields, !request.hasBody), request, handler);
  }

  #onStreamClosed(): void {
    this.reused = true;
    if (this.active > 0) return;
    this.idleSinceMs = this.#clock.monotonic();
    if (this.#draining) this.#http2.close();
  }

  release(): void {
    // Shared: there is nothing to give back.
  }

  /** Takes no new streams and closes when the running ones have ended. */
  drain(): void {
    this.#draining = true;
    if (this.active === 0) this.#http2.close();
  }

  drainAfterNext(): void {
    this.#draining = true;
  }

  close(): void {
    this.#http2.close();
  }
}

/** A request that could not be sent. */
const unsent: UpstreamStream = { data: () => true, end() {}, reset() {}, pause() {}, resume() {} };

/** Answers that never have a body, whatever length they tell. */
const bodyless = new Set([204, 304]);

const lessThanTold = "less of a body than content-length told";

class Http2ClientStream implements UpstreamStream, StreamHandler {
  readonly #stream: Http2Stream;
  readonly #method: string;
  #handler: UpstreamHandler | undefined;
  #answered = false;
  /** What is still to come of the body; without end when that is not known. */
  #left = Number.POSITIVE_INFINITY;
  #informational = 0;

  constructor(stream: Http2Stream, request: RequestHead, handler: UpstreamHandler) {
    this.#stream = stream;
    this.#method = request.method;
    this.#handler = handler;
    stream.handler = this;
  }

  // ---- StreamHandler

  onFields(block: FieldBlock, end: boolean): void {
    if (block.kind === "too-large") this.#fail("protocol", "the response head is larger than is accepted");
    else if (block.kind === "malformed") this.#fail("protocol", "a response field that HTTP/1 could not hold");
    else if (this.#answered) this.#onTrailers(block.fields, end);
    else this.#onHead(block.fields, end);
  }

  #onHead(fields: readonly string[], end: boolean): void {
    const head = readResponse(fields);
    if (!head || head.status === 101) this.#fail("protocol", "a response head that is none");
    else if (head.status < 200) this.#onInformational(head.status, head.headers, end);
    else {
      this.#answered = true;
      const { contentLength } = head;
      if (contentLength >= 0 && this.#method !== "HEAD" && !bodyless.has(head.status)) this.#left = contentLength;
      if (end && this.#short) this.#fail("protocol", lessThanTold);
      else this.#handler?.onResponse({ reason: "", ...head }, end);
      if (end) this.#finish();
    }
  }

  #onInformational(status: number, headers: Headers, end: boolean): void {
    if (end) this.#fail("protocol", "the response ended with an informational answer");
    else if (++this.#informational > limits.informational)
      this.#fail("protocol", `more than ${limits.informational} informational answers`);
    else this.#handler?.onInformational(status, headers);
  }

  #onTrailers(fields: readonly string[], end: boolean): void {
    const trailers = end ? readTrailers(fields) : undefined;
    if (!trailers) this.#fail("protocol", "fields behind the response that are no trailers");
    else this.#end(trailers.length > 0 ? trailers : undefined);
  }

  onData(bytes: Buffer): void {
    this.#left -= bytes.length;
    if (!this.#answered) this.#fail("protocol", "a body before its head");
    else if (this.#left < 0) this.#fail("protocol", "more of a body than content-length told");
    else this.#handler?.onResponseData(bytes);
  }

  onEnd(): void {
    this.#end(undefined);
  }

  #end(trailers: Headers | undefined): void {
    if (!this.#answered) this.#fail("protocol", "the response ended before it began");
    else if (this.#short) this.#fail("protocol", lessThanTold);
    else {
      this.#handler?.onResponseEnd(trailers);
      this.#finish();
    }
  }

  /** Whether less has come than was told. */
  get #short(): boolean {
    return this.#left > 0 && this.#left !== Number.POSITIVE_INFINITY;
  }

  onDrain(): void {
    this.#handler?.onUpstreamDrain();
  }

  onClosed(end: StreamEnd): void {
    const when = this.#answered ? "before the response was whole" : "before any response";
    if (end.kind === "refused") this.#tell("refused", `the server goes away, and did not begin, ${when}`);
    else if (end.kind === "lost")
      this.#tell("reset", `${end.why} ${when}`, this.#answered ? "upstream/reset" : "upstream/connection-lost");
    else {
      const refused = end.code === codes.refusedStream;
      this.#tell(refused ? "refused" : "reset", `the stream was closed with code ${end.code} ${when}`);
    }
  }

  /** The answer is whole. Where the request is not, nobody waits for the rest. */
  #finish(): void {
    this.#handler = undefined;
    if (!this.#stream.localEnded) this.#stream.reset(codes.noError);
  }

  #fail(kind: ResetKind, message: string): void {
    this.#stream.reset(codes.protocolError);
    this.#tell(kind, message);
  }

  #tell(kind: ResetKind, message: string, code = "upstream/reset"): void {
    const handler = this.#handler;
    this.#handler = undefined;
    handler?.onUpstreamReset(kind, new Failure(code, message));
  }

  // ---- UpstreamStream

  data(chunk: Buffer): boolean {
    return this.#stream.data(chunk);
  }

  end(trailers: Headers | undefined): void {
    this.#stream.end(trailers && blockOf([], trailers, -1));
  }

  reset(): void {
    this.#handler = undefined;
    this.#stream.reset(codes.cancel);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }
}
