import { Failure } from "../../base/index.ts";
import { keep } from "../l4/read-buffers.ts";
import { takeReads } from "../l4/reads.ts";
import type { UpstreamSocket } from "../upstream/upstream.ts";
import { ChunkedReader } from "./chunked.ts";
import { endOfHead, type Http1Response, parseResponseHead } from "./head.ts";
import type { Headers } from "./headers.ts";
import { fieldLines, MessageWriter } from "./http1-write.ts";
import {
  type ClientConnection,
  limits,
  Refusal,
  type RequestHead,
  type ResetKind,
  type UpstreamHandler,
  type UpstreamStream,
} from "./message.ts";

type State = "idle" | "head" | "body" | "chunks" | "until-close" | "raw" | "closed";

export interface Http1ClientOptions {
  /** The connection is free for another request. */
  readonly onIdle: (connection: Http1ClientConnection) => void;
  readonly onClosed: (connection: Http1ClientConnection) => void;
}

/** The client side of one HTTP/1 connection: one request at a time. */
export class Http1ClientConnection implements ClientConnection, UpstreamStream {
  readonly socket: UpstreamSocket;
  reused = false;
  /** For the pool: since when nobody uses it, and how many requests it has carried. */
  idleSinceMs = 0;
  /** When it was made, monotonic. */
  bornMs = 0;
  requests = 0;
  readonly #options: Http1ClientOptions;
  readonly #writer: MessageWriter;
  #handler: UpstreamHandler | undefined;
  #state: State = "idle";
  #held: Buffer | undefined;
  #searched = 0;
  #remaining = 0;
  #chunks: ChunkedReader | undefined;
  #method = "";
  #requestWhole = true;
  #responseBytes = false;
  #keepAlive = true;
  #paused = false;
  /** Answers of 1xx to the present request. */
  #informational = 0;
  #rawEnds = 0;
  #lastError: Error | undefined;
  readonly #sink = (data: Buffer) => this.#handler?.onResponseData(data);

  constructor(socket: UpstreamSocket, options: Http1ClientOptions) {
    this.socket = socket;
    this.#options = options;
    const stream = socket.socket;
    this.#writer = new MessageWriter(stream);
    stream.on("end", () => this.#onEnd());
    stream.on("drain", () => this.#handler?.onUpstreamDrain());
    stream.on("error", (error) => {
      this.#lastError = error;
    });
    stream.on("close", () => this.#onClose());
    takeReads(stream, (bytes) => this.#onData(bytes));
  }

  get usable(): boolean {
    return this.#state === "idle" && !this.socket.socket.destroyed;
  }

  start(request: RequestHead, handler: UpstreamHandler): UpstreamStream {
    this.#handler = handler;
    this.#state = "head";
    this.#method = request.method;
    this.#requestWhole = !request.hasBody;
    this.#responseBytes = false;
    this.#informational = 0;
    this.#keepAlive = true;
    this.requests++;
    let text = `${request.method} ${request.path} HTTP/1.1\r\nhost: ${request.authority}\r\n${fieldLines(request.headers)}`;
    let chunked = false;
    if (request.upgrade !== undefined) text += `connection: upgrade\r\nupgrade: ${request.upgrade}\r\n`;
    if (request.contentLength >= 0) text += `content-length: ${request.contentLength}\r\n`;
    else if (request.hasBody) {
      chunked = true;
      text += "transfer-encoding: chunked\r\n";
    }
    if (request.expectContinue) text += "expect: 100-continue\r\n";
    this.#writer.head(`${text}\r\n`, chunked);
    // With a body the head waits for the first of it, this tick: one write. One that waits for 100 must go.
    if (!request.hasBody) this.#writer.flush();
    else this.#writer.schedule();
    return this;
  }

  data(chunk: Buffer): boolean {
    return this.#writer.data(chunk);
  }

  end(trailers: Headers | undefined): void {
    if (this.#state === "raw") {
      this.#writer.flush();
      this.socket.socket.end();
      this.#rawEnd();
      return;
    }
    if (this.#requestWhole) return;
    this.#writer.end(trailers);
    this.#requestWhole = true;
    if (this.#state === "idle") this.#release();
  }

  /** Gives the request up. What comes of its answer belongs to nobody, so the connection goes with it. */
  reset(): void {
    this.#handler = undefined;
    this.socket.socket.destroy();
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.socket.socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.socket.socket.resume();
  }

  release(): void {
    if (this.usable) this.#options.onIdle(this);
  }

  close(): void {
    this.socket.socket.destroy();
  }

  #onData(chunk: Buffer): void {
    if (this.#state === "idle" || this.#state === "closed") {
      // Bytes that no request asked for: whatever they are, they are no answer to the next one.
      this.socket.socket.destroy();
      return;
    }
    this.#responseBytes = true;
    if (this.#state === "raw") {
      this.#handler?.onResponseData(chunk);
      return;
    }
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = undefined;
    try {
      this.#read(bytes);
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught;
      this.#fail("protocol", caught);
    }
  }

  #read(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      switch (this.#state) {
        case "head": {
          const end = endOfHead(bytes, at, at === 0 ? this.#searched : at, limits.headBytes);
          if (end < 0) {
            this.#held = keep(at === 0 ? bytes : bytes.subarray(at));
            this.#searched = this.#held.length;
            return;
          }
          this.#searched = 0;
          const head = parseResponseHead(bytes.toString("latin1", at, end + 2));
          at = end + 4;
          this.#onHead(head);
          break;
        }
        case "body": {
          const take = Math.min(this.#remaining, bytes.length - at);
          const data = at === 0 && take === bytes.length ? bytes : bytes.subarray(at, at + take);
          at += take;
          this.#remaining -= take;
          this.#handler?.onResponseData(data);
          if (this.#remaining === 0 && this.#state === "body") {
            // Bytes behind the answer make the connection worthless, and must not reach whoever would use it next.
            if (at < bytes.length) this.#keepAlive = false;
            this.#onWhole(undefined);
            return;
          }
          break;
        }
        case "chunks": {
          const chunks = this.#chunks!;
          at = chunks.read(bytes, at, this.#sink);
          if (chunks.done && this.#state === "chunks") {
            if (at < bytes.length) this.#keepAlive = false;
            this.#onWhole(chunks.trailers);
            return;
          }
          break;
        }
        case "until-close":
        case "raw":
          this.#handler?.onResponseData(at === 0 ? bytes : bytes.subarray(at));
          return;
        case "idle":
          this.socket.socket.destroy();
          return;
        case "closed":
          return;
      }
    }
  }

  #onHead(head: Http1Response): void {
    const { status } = head;
    if (status === 101) {
      this.#state = "raw";
      this.#keepAlive = false;
      this.#handler?.onResponse(head, false);
      return;
    }
    if (status < 200) {
      if (++this.#informational > limits.informational)
        throw new Refusal(502, "upstream_protocol_error", `more than ${limits.informational} informational answers`);
      this.#handler?.onInformational(status, head.headers);
      return;
    }
    this.#keepAlive = head.keepAlive;
    const bodyless = this.#method === "HEAD" || status === 204 || status === 304;
    if (bodyless || (head.contentLength === 0 && !head.chunked)) {
      // The handler is told last whether the connection lives on, so that it may use it again at once.
      const handler = this.#handler;
      this.#onWholeHead();
      handler?.onResponse(head, true);
      return;
    }
    if (head.chunked) {
      this.#chunks = new ChunkedReader();
      this.#state = "chunks";
    } else if (head.contentLength > 0) {
      this.#remaining = head.contentLength;
      this.#state = "body";
    } else {
      this.#keepAlive = false;
      this.#state = "until-close";
    }
    this.#handler?.onResponse(head, false);
  }

  #onWholeHead(): void {
    this.#handler = undefined;
    this.#becomeIdle();
  }

  #onWhole(trailers: Headers | undefined): void {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#chunks = undefined;
    this.#becomeIdle();
    handler?.onResponseEnd(trailers);
  }

  #becomeIdle(): void {
    this.#state = "idle";
    this.#release();
  }

  /** An answer that came before its request was whole leaves the server waiting for the rest: not for another request. */
  #release(): void {
    this.resume();
    if (!this.#keepAlive || !this.#requestWhole || this.socket.socket.destroyed) {
      this.socket.socket.destroy();
      return;
    }
    this.reused = true;
    this.#options.onIdle(this);
  }

  #rawEnd(): void {
    if (++this.#rawEnds === 2) this.socket.socket.destroySoon();
  }

  #onEnd(): void {
    switch (this.#state) {
      case "until-close":
        this.#keepAlive = false;
        this.#onWhole(undefined);
        break;
      case "raw":
        this.#rawEnd();
        this.#handler?.onResponseEnd(undefined);
        break;
      default:
        this.socket.socket.destroy();
    }
  }

  #onClose(): void {
    if (this.#state === "closed") return;
    const raw = this.#state === "raw" && this.#rawEnds >= 1 && this.#lastError === undefined;
    const idle = this.#state === "idle";
    if (!idle && !raw) {
      const said = this.#lastError ? this.#lastError.message : "the connection was closed";
      const when = this.#responseBytes ? "before the response was whole" : "before any response";
      this.#fail(
        "reset",
        new Failure(
          this.#responseBytes ? "upstream/reset" : "upstream/connection-lost",
          `${said} ${when}`,
          this.#lastError ? { cause: this.#lastError } : {},
        ),
      );
    }
    this.#state = "closed";
    this.#options.onClosed(this);
  }

  #fail(kind: ResetKind, failure: Failure): void {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#state = "closed";
    this.socket.socket.destroy();
    this.#options.onClosed(this);
    handler?.onUpstreamReset(kind, failure);
  }
}
