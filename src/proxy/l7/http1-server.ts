import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/index.ts";
import { Failure } from "../../base/index.ts";
import { ChunkedReader } from "./chunked.ts";
import { endOfHead, type Http1Request, parseRequestHead } from "./head.ts";
import type { Headers } from "./headers.ts";
import { fieldLines, MessageWriter } from "./http1-write.ts";
import { type Downstream, type DownstreamHandler, limits, Refusal, type ResponseHead } from "./message.ts";
import type { Sweeper, Swept } from "./sweeper.ts";

export interface Http1ServerOptions {
  readonly socket: Duplex;
  readonly clock: Clock;
  readonly sweeper: Sweeper;
  readonly maxHeadBytes: number;
  /** From the first byte of a head to its end. */
  readonly headersTimeoutMs: number;
  /** Without any request on the connection; 0 for ever. */
  readonly idleTimeoutMs: number;
  /** Without a byte either way while a request runs; 0 for ever. */
  readonly streamIdleTimeoutMs: number;
  /** From the first byte of a request to the last of its body; 0 for ever. */
  readonly requestTimeoutMs: number;
  /** Called for each request, head read; its `Downstream` is the connection itself, one request at a time. */
  readonly onRequest: (stream: Http1ServerConnection) => void;
  /** A head or framing that was refused and has been answered; `request` is there when only the body was wrong. */
  readonly onRefused: (refusal: Refusal) => void;
}

type State =
  /** Between requests or inside a head. */
  | "head"
  | "body"
  | "chunks"
  /** The request is whole, its answer is not. */
  | "answering"
  /** After 101: plain bytes. */
  | "raw"
  /** Everything is said; what still comes is read and dropped until the client has closed. */
  | "lingering"
  | "closed";

/** How long the last answer is given to reach a client that still sends, in milliseconds. */
const lingerMs = 2000;
const never = Number.POSITIVE_INFINITY;

/** The server side of one HTTP/1 connection. Requests are answered one after the other; what comes early waits. */
export class Http1ServerConnection implements Downstream {
  request!: Http1Request;
  handler: DownstreamHandler | undefined;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  /** Bytes of the present request, head and body. */
  bytesIn = 0;
  readonly #options: Http1ServerOptions;
  readonly #socket: Duplex;
  readonly #writer: MessageWriter;
  #state: State = "head";
  /** Unread bytes: part of a head, or requests that came early. */
  #held: Buffer | undefined;
  #searched = 0;
  #remaining = 0;
  #chunks: ChunkedReader | undefined;
  #discarded = 0;
  #running = false;
  #paused = false;
  #bodyPaused = false;
  #ended = false;
  /** What has been sent of the answer. */
  #answer: "none" | "head" | "whole" = "none";
  #keepAlive = true;
  #draining = false;
  /** The answer ends with the connection: no length, no chunks. */
  #untilClose = false;
  #rawEnds = 0;
  #deadline: number;
  #deadlineFor: "head" | "idle" | "stream" | "linger" = "idle";
  #requestDeadline = never;
  #resolveClosed!: () => void;
  readonly #sink = (data: Buffer) => this.#onBody(data);

  constructor(options: Http1ServerOptions) {
    this.#options = options;
    this.#socket = options.socket;
    this.#writer = new MessageWriter(options.socket);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#deadline = this.#after(options.idleTimeoutMs);
    options.sweeper.add(this);
    const socket = options.socket;
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("end", () => this.#onEnd());
    socket.on("drain", () => this.handler?.onDownstreamDrain());
    // What an error means is said by the close that follows it.
    socket.on("error", () => {});
    socket.on("close", () => this.#onClose());
    if (socket.destroyed) this.#onClose();
  }

  /** Bytes written on this connection so far. */
  get bytesOut(): number {
    return this.#writer.written;
  }

  /** Finishes what runs and takes nothing new. */
  drain(): void {
    this.#draining = true;
    this.#keepAlive = false;
    if (this.#state === "head" && this.#held === undefined) this.#finish();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  // ---- reading

  #onData(chunk: Buffer): void {
    if (this.#state === "lingering") {
      this.#discarded += chunk.length;
      if (this.#discarded > limits.discardBytes) this.#socket.destroy();
      return;
    }
    if (this.#state === "raw") {
      this.#touch();
      this.handler?.onRequestData(chunk);
      return;
    }
    if (this.#held) {
      this.#held = Buffer.concat([this.#held, chunk]);
    } else {
      this.#held = chunk;
      this.#searched = 0;
    }
    this.#run();
  }

  /** Reads as far as it goes. Not entered twice: an answer that is there at once is found by the loop. */
  #run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      let at = 0;
      while (this.#held !== undefined) {
        const bytes: Buffer = this.#held;
        if (at >= bytes.length) {
          this.#held = undefined;
          break;
        }
        const before: State = this.#state;
        if (before === "head") {
          const next = this.#readHead(bytes, at);
          if (next < 0) {
            this.#held = at === 0 ? bytes : bytes.subarray(at);
            break;
          }
          at = next;
        } else if (before === "body") {
          const take = Math.min(this.#remaining, bytes.length - at);
          const end = at + take;
          this.#remaining -= take;
          const data = at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end);
          at = end;
          this.#onBody(data);
          if (this.#remaining === 0) this.#onBodyEnd(undefined);
        } else if (before === "chunks") {
          const chunks = this.#chunks!;
          at = chunks.read(bytes, at, this.#sink);
          if (chunks.done) this.#onBodyEnd(chunks.trailers);
        } else if (before === "answering") {
          // The next request came early. It waits, and so does its sender.
          this.#held = at === 0 ? bytes : bytes.subarray(at);
          this.#pause();
          break;
        } else {
          this.#held = undefined;
          if (before === "raw") this.handler?.onRequestData(bytes.subarray(at));
          break;
        }
      }
    } catch (caught) {
      this.#held = undefined;
      if (!(caught instanceof Refusal)) throw caught;
      this.#refuse(caught);
    } finally {
      this.#running = false;
    }
    if (this.#ended && this.#state === "head") this.#finish();
  }

  /** Returns where the body begins, or −1 when the head is not whole. */
  #readHead(bytes: Buffer, from: number): number {
    let at = from;
    // RFC 9112 §2.2: empty lines before a request are let pass; two are enough for any honest client.
    for (let lines = 0; lines < 2 && bytes[at] === 13 && bytes[at + 1] === 10; lines++) at += 2;
    if (at > from && at >= bytes.length) return at;
    const end = endOfHead(bytes, at, from === 0 ? this.#searched : at, this.#options.maxHeadBytes);
    if (this.#deadlineFor !== "head") {
      this.#deadlineFor = "head";
      const now = this.#options.clock.monotonic();
      this.#deadline = now + this.#options.headersTimeoutMs;
      const { requestTimeoutMs } = this.#options;
      this.#requestDeadline = requestTimeoutMs > 0 ? now + requestTimeoutMs : never;
    }
    if (end < 0) {
      this.#searched = bytes.length - from;
      return -1;
    }
    this.#searched = 0;
    const request = parseRequestHead(bytes.toString("latin1", at, end + 2));
    this.request = request;
    this.bytesIn = end + 4 - at;
    this.#keepAlive = request.keepAlive && !this.#draining;
    this.#answer = "none";
    this.#untilClose = false;
    this.#discarded = 0;
    this.#deadlineFor = "stream";
    this.#deadline = this.#after(this.#options.streamIdleTimeoutMs);
    if (request.chunked) {
      this.#chunks = new ChunkedReader();
      this.#state = "chunks";
    } else if (request.contentLength > 0) {
      this.#remaining = request.contentLength;
      this.#state = "body";
    } else {
      this.#state = "answering";
      this.#requestDeadline = never;
    }
    this.#options.onRequest(this);
    return end + 4;
  }

  #onBody(data: Buffer): void {
    this.bytesIn += data.length;
    this.#touch();
    if (this.#answer === "whole") {
      this.#discarded += data.length;
      if (this.#discarded > limits.discardBytes) this.#finish();
      return;
    }
    this.handler?.onRequestData(data);
  }

  #onBodyEnd(trailers: Headers | undefined): void {
    if (this.#state !== "body" && this.#state !== "chunks") return;
    this.#chunks = undefined;
    this.#state = "answering";
    this.#requestDeadline = never;
    if (this.#answer === "whole") this.#next();
    else this.handler?.onRequestEnd(trailers);
  }

  #onEnd(): void {
    this.#ended = true;
    switch (this.#state) {
      case "head":
        if (this.#held === undefined) this.#finish();
        else this.#refuse(new Refusal(400, "http1.incomplete_head", "the connection ended inside a request head"));
        break;
      case "body":
      case "chunks":
        // The rest of the body will never come, so nobody may take what came for the whole.
        this.#broken("DC", "downstream_remote_disconnect");
        break;
      case "raw":
        this.#rawEnd();
        this.handler?.onRequestEnd(undefined);
        break;
      case "lingering":
        this.#socket.destroy();
        break;
      default:
        // Half-closed after a whole request: the answer is still wanted.
        this.#keepAlive = false;
    }
  }

  #onClose(): void {
    if (this.#state === "closed") return;
    const { handler } = this;
    this.#state = "closed";
    this.#held = undefined;
    this.#options.sweeper.delete(this);
    this.handler = undefined;
    if (this.#answer !== "whole") handler?.onDownstreamReset("DC", "downstream_remote_disconnect");
    this.#resolveClosed();
  }

  #broken(flag: "DC" | "DPE", details: string): void {
    const { handler } = this;
    this.handler = undefined;
    this.#answer = "whole";
    this.#socket.destroy();
    handler?.onDownstreamReset(flag, details);
  }

  /** Answers a request that cannot be understood, and closes: where the next one begins is not known. */
  #refuse(refusal: Refusal): void {
    if (this.#state === "closed") return;
    const { handler } = this;
    this.handler = undefined;
    handler?.onDownstreamReset("DPE", refusal.details);
    if (!handler) this.#options.onRefused(refusal);
    if (this.#answer === "head") {
      this.#answer = "whole";
      this.#socket.destroy();
      return;
    }
    this.#answer = "whole";
    const body = `${refusal.message}\n`;
    this.#writer.head(
      `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? "Error"}\r\ncontent-type: text/plain\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`,
      false,
    );
    this.#writer.data(Buffer.from(body));
    this.#writer.end(undefined);
    this.#finish();
  }

  // ---- Downstream

  pauseBody(): void {
    this.#bodyPaused = true;
    this.#pause();
  }

  resumeBody(): void {
    this.#bodyPaused = false;
    this.#unpause();
  }

  informational(status: number, headers: Headers): void {
    if (this.#answer !== "none" || this.request.version === "HTTP/1.0") return;
    this.#writer.head(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${fieldLines(headers)}\r\n`, false);
    this.#writer.flush();
  }

  respond(head: ResponseHead, end: boolean): void {
    const { request } = this;
    if (this.#answer !== "none" || this.#state === "closed") return;
    const { status, contentLength } = head;
    let text = `HTTP/1.1 ${status} ${head.reason !== "" ? head.reason : (STATUS_CODES[status] ?? "")}\r\n${fieldLines(head.headers)}`;
    if (status === 101) {
      this.#writer.head(`${text}connection: upgrade\r\nupgrade: ${request.upgrade ?? ""}\r\n\r\n`, false);
      this.#writer.flush();
      this.#answer = "head";
      this.#state = "raw";
      if (this.#ended) this.#rawEnd();
      this.#unpause();
      if (!this.#running) this.#run();
      return;
    }
    const bodyless = request.method === "HEAD" || status === 204 || status === 304;
    let chunked = false;
    if (contentLength >= 0) {
      if (status !== 204) text += `content-length: ${contentLength}\r\n`;
    } else if (!bodyless) {
      if (end) text += "content-length: 0\r\n";
      else if (request.version === "HTTP/1.0") this.#untilClose = true;
      else {
        chunked = true;
        text += "transfer-encoding: chunked\r\n";
      }
    }
    // Bytes that came behind a refused upgrade may be meant for the other protocol: they are not read as a request.
    if (
      head.close === true ||
      this.#untilClose ||
      this.#draining ||
      this.#ended ||
      (request.upgrade !== undefined && this.#held !== undefined)
    )
      this.#keepAlive = false;
    if (!this.#keepAlive) text += "connection: close\r\n";
    else if (request.version === "HTTP/1.0") text += "connection: keep-alive\r\n";
    this.#answer = "head";
    this.#writer.head(`${text}\r\n`, chunked && !bodyless);
    if (end) this.end(undefined);
    else this.#writer.schedule();
  }

  data(chunk: Buffer): boolean {
    this.#touch();
    return this.#writer.data(chunk);
  }

  end(trailers: Headers | undefined): void {
    if (this.#state === "raw") {
      this.#writer.flush();
      this.#socket.end();
      this.#rawEnd();
      return;
    }
    if (this.#answer === "whole") return;
    this.#writer.end(trailers);
    this.#answer = "whole";
    this.handler = undefined;
    if (this.#state === "answering") this.#next();
    else if (this.#bodyPaused) this.resumeBody();
  }

  reset(): void {
    this.handler = undefined;
    this.#answer = "whole";
    this.#socket.destroy();
  }

  // ---- between requests

  #next(): void {
    if (!this.#keepAlive || this.#ended) {
      this.#finish();
      return;
    }
    this.#state = "head";
    this.#deadlineFor = "idle";
    this.#deadline = this.#after(this.#options.idleTimeoutMs);
    this.#bodyPaused = false;
    this.#unpause();
    if (this.#held !== undefined && !this.#running) this.#run();
  }

  #rawEnd(): void {
    if (++this.#rawEnds === 2) {
      this.#answer = "whole";
      if (!this.#socket.writableEnded) this.#socket.end();
    }
  }

  /** Sends the end, and waits a little for the client's, so that no reset overtakes the answer. */
  #finish(): void {
    if (this.#state === "closed" || this.#state === "lingering") return;
    this.#held = undefined;
    this.#writer.flush();
    this.#state = "lingering";
    this.#deadlineFor = "linger";
    this.#deadline = this.#options.clock.monotonic() + lingerMs;
    this.#bodyPaused = false;
    this.#unpause();
    const socket = this.#socket;
    if (this.#ended) socket.end(() => socket.destroy());
    else socket.end();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  #unpause(): void {
    if (!this.#paused || this.#bodyPaused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  // ---- time

  #after(ms: number): number {
    return ms > 0 ? this.#options.clock.monotonic() + ms : never;
  }

  /** Something moved: the stream is not idle. */
  #touch(): void {
    if (this.#deadline !== never && this.#deadlineFor === "stream")
      this.#deadline = this.#after(this.#options.streamIdleTimeoutMs);
  }

  onSweep(now: number): void {
    if (now < this.#deadline && now < this.#requestDeadline) return;
    if (now >= this.#requestDeadline && (this.#state === "body" || this.#state === "chunks")) {
      this.#refuse(new Refusal(408, "request_overall_timeout", "the request did not come in time"));
      return;
    }
    if (now < this.#deadline) return;
    switch (this.#deadlineFor) {
      case "head": {
        this.#refuse(
          new Refusal(
            408,
            "request_header_timeout",
            `the request head took longer than ${this.#options.headersTimeoutMs} ms`,
          ),
        );
        return;
      }
      case "stream": {
        const { handler } = this;
        if (this.#answer === "none" && this.#state !== "answering") {
          this.#refuse(new Refusal(408, "stream_idle_timeout", "the request body stood still for too long"));
          return;
        }
        this.handler = undefined;
        this.#answer = "whole";
        this.#socket.destroy();
        handler?.onDownstreamReset("SI", "stream_idle_timeout");
        return;
      }
      case "idle": {
        this.#finish();
        return;
      }
      case "linger":
        this.#socket.destroy();
    }
  }
}

/** For those who hold a connection only to end it. */
export type { Swept };
export { Failure };
