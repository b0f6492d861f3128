import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { type Clock, Failure } from "../../base/index.ts";
import { writeKept } from "../l4/read-buffers.ts";
import type { UpstreamSocket } from "../upstream/upstream.ts";
import { type Headers, isFieldName, isFieldValue } from "./headers.ts";
import { fromNode, toNode } from "./http2-headers.ts";
import {
  type ClientConnection,
  limits,
  type RequestHead,
  type ResetKind,
  type UpstreamHandler,
  type UpstreamStream,
} from "./message.ts";

/** How long a new connection may take to say its settings, in milliseconds. */
const settingsTimeoutMs = 10_000;

/** The client side of one HTTP/2 connection. */
export class Http2ClientConnection implements ClientConnection {
  readonly socket: UpstreamSocket;
  readonly #session: ClientHttp2Session;
  readonly #clock: Clock;
  reused = false;
  active = 0;
  requests = 0;
  /** When it was made, monotonic. */
  bornMs = 0;
  /** Since when no stream is open; 0 while one is. */
  idleSinceMs: number;
  #draining = false;
  #closed = false;

  private constructor(socket: UpstreamSocket, session: ClientHttp2Session, clock: Clock) {
    this.socket = socket;
    this.#session = session;
    this.#clock = clock;
    this.idleSinceMs = clock.monotonic();
  }

  /** Resolves when the server has said its settings: only then is it known how many streams it takes. */
  static open(
    socket: UpstreamSocket,
    clock: Clock,
    onClosed: (closed: Http2ClientConnection) => void,
  ): Promise<Http2ClientConnection> {
    return new Promise((resolve, reject) => {
      const session = connect("http://upstream.invalid", {
        createConnection: () => socket.socket,
        maxHeaderListPairs: limits.fields + 10,
        settings: { enablePush: false, initialWindowSize: 256 * 1024, maxHeaderListSize: limits.headBytes },
      } as Parameters<typeof connect>[1] & object);
      session.setLocalWindowSize?.(1024 * 1024);
      const connection = new Http2ClientConnection(socket, session, clock);
      const fail = (failure: Failure) => {
        timer.cancel();
        session.destroy();
        reject(failure);
      };
      const timer = clock.after(
        settingsTimeoutMs,
        () => fail(new Failure("upstream/http2-settings", `no HTTP/2 settings within ${settingsTimeoutMs} ms`)),
        { background: true },
      );
      session.once("remoteSettings", () => {
        timer.cancel();
        resolve(connection);
      });
      // What an error means is said by the close that follows it, and by each stream.
      session.on("error", (error) => {
        connection.#lastError = error;
      });
      session.on("goaway", () => connection.drain());
      session.on("close", () => {
        connection.#closed = true;
        const why = connection.#lastError?.message ?? "the connection was closed";
        fail(new Failure("upstream/http2", `${why} before HTTP/2 settings came`));
        onClosed(connection);
      });
    });
  }
  #lastError: Error | undefined;

  get usable(): boolean {
    return !this.#draining && !this.#closed && !this.#session.closed && !this.#session.destroyed;
  }

  get maxStreams(): number {
    return Math.min(this.#session.remoteSettings.maxConcurrentStreams ?? 100, 1000);
  }

  start(request: RequestHead, handler: UpstreamHandler): UpstreamStream {
    this.requests++;
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(
        toNode(
          [
            ":method",
            request.method,
            ":scheme",
            this.socket.tls ? "https" : "http",
            ":authority",
            request.authority,
            ":path",
            request.path,
          ],
          request.headers,
          request.contentLength,
          request.expectContinue,
        ),
        { endStream: !request.hasBody, waitForTrailers: true } as { endStream: boolean },
      );
    } catch (caught) {
      // The session ended between the choice and the use, or its identifiers are used up: nothing has been sent.
      this.drain();
      const failure = new Failure("upstream/http2", `${(caught as Error).message} before any response`, {
        cause: caught,
      });
      queueMicrotask(() => handler.onUpstreamReset("refused", failure));
      return unsent;
    }
    this.active++;
    this.idleSinceMs = 0;
    return new Http2ClientStream(stream, handler, () => {
      this.active--;
      this.reused = true;
      if (this.active > 0) return;
      this.idleSinceMs = this.#clock.monotonic();
      if (this.#draining) this.#session.close();
    });
  }

  release(): void {
    // Shared: there is nothing to give back.
  }

  /** Takes no new streams and closes when the running ones have ended. */
  drain(): void {
    this.#draining = true;
    if (!this.#session.closed) this.#session.close();
  }

  drainAfterNext(): void {
    this.#draining = true;
  }

  close(): void {
    this.#session.destroy();
  }
}

/** A request that could not be sent. */
const unsent: UpstreamStream = { data: () => true, end() {}, reset() {}, pause() {}, resume() {} };

class Http2ClientStream implements UpstreamStream {
  readonly #stream: ClientHttp2Stream;
  #handler: UpstreamHandler | undefined;
  #answered = false;
  #ended = false;
  #trailers: Headers | undefined;
  #outgoing: Headers | undefined;
  #code = "upstream/reset";
  #informational = 0;

  constructor(stream: ClientHttp2Stream, handler: UpstreamHandler, onClosed: () => void) {
    this.#stream = stream;
    this.#handler = handler;
    stream.on("wantTrailers", () => {
      // Without any, Node ends the stream with an empty DATA frame.
      stream.sendTrailers(toNode([], this.#outgoing ?? [], -1, false));
    });
    stream.on("headers", (headers) => {
      const { status, headers: list } = fromNode(headers);
      if (++this.#informational > limits.informational) {
        this.#fail("protocol", `more than ${limits.informational} informational answers`);
        return;
      }
      this.#handler?.onInformational(status, list);
    });
    stream.on("response", (headers, flags) => {
      const { status, headers: list, contentLength } = fromNode(headers);
      if (!valid(list)) return this.#fail("protocol", "a response field that HTTP/1 could not hold");
      this.#answered = true;
      const end = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      if (end) this.#ended = true;
      this.#handler?.onResponse({ status, reason: "", headers: list, contentLength }, end);
    });
    stream.on("trailers", (headers) => {
      this.#trailers = fromNode(headers).headers;
    });
    stream.on("data", (chunk: Buffer) => this.#handler?.onResponseData(chunk));
    stream.on("end", () => {
      // A stream that was reset ends as well; only a closed one without an error was whole.
      if (this.#ended || !this.#answered || (stream.rstCode !== undefined && stream.rstCode !== 0)) return;
      this.#ended = true;
      const trailers = this.#trailers && valid(this.#trailers) ? this.#trailers : undefined;
      this.#handler?.onResponseEnd(trailers);
      this.#handler = undefined;
      // The answer is whole though the request is not: nobody waits for the rest.
      if (!stream.writableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
    });
    stream.on("drain", () => this.#handler?.onUpstreamDrain());
    let why: Error | undefined;
    stream.on("error", (error) => {
      why = error;
    });
    stream.on("close", () => {
      onClosed();
      if (this.#ended) {
        this.#handler = undefined;
        return;
      }
      const code = stream.rstCode ?? 0;
      const refused = code === constants.NGHTTP2_REFUSED_STREAM;
      const when = this.#answered ? "before the response was whole" : "before any response";
      const lost = !this.#answered && (stream.session === undefined || stream.session.destroyed);
      if (lost) this.#code = "upstream/connection-lost";
      this.#fail(refused ? "refused" : "reset", `${why?.message ?? `the stream was closed with code ${code}`} ${when}`);
    });
  }

  data(chunk: Buffer): boolean {
    if (this.#stream.destroyed || this.#stream.writableEnded) return true;
    return writeKept(this.#stream, chunk);
  }

  end(trailers: Headers | undefined): void {
    this.#outgoing = trailers;
    if (!this.#stream.writableEnded) this.#stream.end();
  }

  reset(): void {
    this.#handler = undefined;
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #fail(kind: ResetKind, message: string): void {
    const handler = this.#handler;
    this.#handler = undefined;
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    handler?.onUpstreamReset(kind, new Failure(this.#code, message));
  }
}

function valid(headers: Headers): boolean {
  for (let i = 0; i < headers.length; i += 2)
    if (!isFieldName(headers[i]!) || !isFieldValue(headers[i + 1]!)) return false;
  return true;
}
