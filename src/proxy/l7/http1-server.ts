import type { Duplex } from "node:stream";
import type { Clock } from "../../base/index.ts";
import { takeReads } from "../l4/reads.ts";
import type { Http1Request } from "./head.ts";
import type { Headers } from "./headers.ts";
import { answerHead, informationalHead, refusalAnswer, upgradeHead } from "./http1-answer.ts";
import { Http1Deadlines, type Http1Times } from "./http1-deadlines.ts";
import { RequestReader, type RequestSink } from "./http1-requests.ts";
import { MessageWriter } from "./http1-write.ts";
import { type Downstream, type DownstreamHandler, limits, Refusal, type ResponseHead } from "./message.ts";
import type { Sweeper, Swept } from "./sweeper.ts";

export interface Http1ServerOptions extends Http1Times {
  readonly socket: Duplex;
  readonly clock: Clock;
  readonly sweeper: Sweeper;
  readonly maxHeadBytes: number;
  /** Called for each request, head read; its `Downstream` is the connection itself, one request at a time. */
  readonly onRequest: (stream: Http1ServerConnection) => void;
  /** A head or framing that was refused and has been answered; `request` is there when only the body was wrong. */
  readonly onRefused: (refusal: Refusal) => void;
}

type State =
  /** Requests are read and answered, one by one. */
  | "open"
  /** After 101: plain bytes. */
  | "raw"
  /** Everything is said; what still comes is read and dropped until the client has closed. */
  | "lingering"
  | "closed";

/** The server side of one HTTP/1 connection. Requests are answered one after the other; what comes early waits. */
export class Http1ServerConnection implements Downstream, RequestSink, Swept {
  request!: Http1Request;
  handler: DownstreamHandler | undefined;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  /** Bytes of the present request, head and body. */
  bytesIn = 0;
  readonly #options: Http1ServerOptions;
  readonly #socket: Duplex;
  readonly #reader: RequestReader;
  readonly #writer: MessageWriter;
  readonly #deadlines: Http1Deadlines;
  #state: State = "open";
  /** A request has been read, and its answer is not whole. */
  #serving = false;
  /** What has been sent of the answer. */
  #answer: "none" | "head" | "whole" = "none";
  #keepAlive = true;
  #draining = false;
  #paused = false;
  #bodyPaused = false;
  /** The client has ended its side. */
  #ended = false;
  #rawEnds = 0;
  #discarded = 0;
  #resolveClosed!: () => void;

  constructor(options: Http1ServerOptions) {
    const { socket } = options;
    this.#options = options;
    this.#socket = socket;
    this.#reader = new RequestReader(this, options.maxHeadBytes);
    this.#writer = new MessageWriter(socket);
    this.#deadlines = new Http1Deadlines(options, options.clock);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  /** Begins to read. */
  start(): void {
    const socket = this.#socket;
    this.#options.sweeper.add(this);
    socket.on("end", () => this.#onEnd());
    socket.on("drain", () => this.handler?.onDownstreamDrain());
    // What an error means is said by the close that follows it.
    socket.on("error", () => {});
    socket.on("close", () => this.#onClose());
    if (socket.destroyed) this.#onClose();
    else takeReads(socket, (bytes) => this.#onBytes(bytes));
  }

  /** Bytes written on this connection so far. */
  get bytesOut(): number {
    return this.#writer.written;
  }

  /** Finishes what runs and takes nothing new. */
  drain(): void {
    this.#draining = true;
    this.#keepAlive = false;
    if (this.#state === "open" && !this.#serving && !this.#reader.holds) this.#finish();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  // ---- reading

  #onBytes(bytes: Buffer): void {
    if (this.#state === "lingering") {
      this.#discard(bytes.length);
    } else if (this.#state === "raw") {
      this.#deadlines.onBytes();
      this.handler?.onRequestData(bytes);
    } else {
      this.#read(bytes);
    }
  }

  /** Reads what has come, or what had come early. */
  #read(bytes?: Buffer): void {
    try {
      if (bytes) this.#reader.take(bytes);
      else this.#reader.next();
    } catch (caught) {
      if (!(caught instanceof Refusal)) throw caught;
      this.#refuse(caught);
      return;
    }
    if (this.#state !== "open") return;
    // The next request came early. It waits, and so does its sender.
    if (this.#serving && !this.#reader.inBody && this.#reader.holds) this.#pause();
    else if (!this.#serving && this.#ended) this.#finish();
  }

  onHeadBegins(): void {
    this.#deadlines.onHeadBegins();
  }

  onHead(request: Http1Request, bytes: number): void {
    this.request = request;
    this.bytesIn = bytes;
    this.#serving = true;
    this.#keepAlive = request.keepAlive && !this.#draining;
    this.#answer = "none";
    this.#discarded = 0;
    this.#deadlines.onHead();
    if (!this.#reader.inBody) this.#deadlines.onWholeRequest();
    this.#options.onRequest(this);
  }

  onBody(data: Buffer): void {
    this.bytesIn += data.length;
    this.#deadlines.onBytes();
    if (this.#answer === "whole") this.#discard(data.length);
    else this.handler?.onRequestData(data);
  }

  onBodyEnd(trailers: Headers | undefined): void {
    this.#deadlines.onWholeRequest();
    if (this.#answer === "whole") this.#next();
    else this.handler?.onRequestEnd(trailers);
  }

  /** Bytes that nobody wants are read for a while, because a reset would overtake the answer. */
  #discard(bytes: number): void {
    this.#discarded += bytes;
    if (this.#discarded <= limits.discardBytes) return;
    if (this.#state === "lingering") this.#socket.destroy();
    else this.#finish();
  }

  #onEnd(): void {
    this.#ended = true;
    if (this.#state === "lingering") this.#socket.destroy();
    else if (this.#state === "raw") {
      this.#rawEnd();
      this.handler?.onRequestEnd(undefined);
    } else if (this.#reader.inBody) {
      // The rest of the body will never come, so nobody may take what came for the whole.
      this.#break("DC", "downstream_remote_disconnect");
    } else if (this.#serving) {
      // Half-closed after a whole request: the answer is still wanted.
      this.#keepAlive = false;
    } else if (this.#reader.holds) {
      this.#refuse(new Refusal(400, "http1.incomplete_head", "the connection ended inside a request head"));
    } else this.#finish();
  }

  #onClose(): void {
    if (this.#state === "closed") return;
    const { handler } = this;
    this.#state = "closed";
    this.#reader.stop();
    this.#options.sweeper.delete(this);
    this.handler = undefined;
    if (this.#answer !== "whole") handler?.onDownstreamReset("DC", "downstream_remote_disconnect");
    this.#resolveClosed();
  }

  #break(flag: "DC" | "SI", details: string): void {
    const { handler } = this;
    this.reset();
    handler?.onDownstreamReset(flag, details);
  }

  /** Answers a request that cannot be understood, and closes: where the next one begins is not known. */
  #refuse(refusal: Refusal): void {
    if (this.#state === "closed") return;
    if (this.#serving && this.#answer === "whole") {
      // Only the body of a request that was answered is wrong: there is nothing left to say.
      this.#finish();
      return;
    }
    const { handler } = this;
    this.handler = undefined;
    handler?.onDownstreamReset("DPE", refusal.details);
    if (!handler) this.#options.onRefused(refusal);
    if (this.#answer === "head") {
      this.reset();
      return;
    }
    this.#answer = "whole";
    const { head, body } = refusalAnswer(refusal);
    this.#writer.head(head, false);
    this.#writer.data(body);
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
    this.#writer.head(informationalHead(status, headers), false);
    this.#writer.flush();
  }

  respond(head: ResponseHead, end: boolean): void {
    const { request } = this;
    if (this.#answer !== "none" || this.#state === "closed") return;
    this.#answer = "head";
    if (head.status === 101) {
      this.#writer.head(upgradeHead(head, request.upgrade ?? ""), false);
      this.#becomeRaw();
      return;
    }
    // Bytes that came behind a refused upgrade may be meant for the other protocol: they are not read as a request.
    const behindUpgrade = request.upgrade !== undefined && this.#reader.holds;
    const mayStay = this.#keepAlive && !this.#draining && !this.#ended && !behindUpgrade;
    const { text, chunked, keepAlive } = answerHead(head, { request, end, keepAlive: mayStay });
    this.#keepAlive = keepAlive;
    this.#writer.head(text, chunked);
    if (end) this.end(undefined);
    else this.#writer.schedule();
  }

  data(chunk: Buffer): boolean {
    this.#deadlines.onBytes();
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
    if (!this.#reader.inBody) this.#next();
    else if (this.#bodyPaused) this.resumeBody();
  }

  reset(): void {
    this.handler = undefined;
    this.#answer = "whole";
    this.#socket.destroy();
  }

  // ---- after an answer

  #next(): void {
    this.#serving = false;
    if (!this.#keepAlive || this.#ended) {
      this.#finish();
      return;
    }
    this.#deadlines.onIdle();
    this.#bodyPaused = false;
    this.#unpause();
    this.#read();
  }

  #becomeRaw(): void {
    const early = this.#reader.stop();
    this.#writer.flush();
    this.#state = "raw";
    if (this.#ended) this.#rawEnd();
    this.#unpause();
    if (early) this.handler?.onRequestData(early);
  }

  #rawEnd(): void {
    if (++this.#rawEnds < 2) return;
    this.#answer = "whole";
    if (!this.#socket.writableEnded) this.#socket.end();
  }

  /** Sends the end, and waits a little for the client's, so that no reset overtakes the answer. */
  #finish(): void {
    if (this.#state === "closed" || this.#state === "lingering") return;
    this.#reader.stop();
    this.#writer.flush();
    this.#state = "lingering";
    this.#deadlines.onLinger();
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

  onSweep(now: number): void {
    switch (this.#deadlines.missed(now)) {
      case undefined:
        break;
      case "request":
        this.#refuse(new Refusal(408, "request_overall_timeout", "the request did not come in time"));
        break;
      case "head": {
        const sentence = `the request head took longer than ${this.#options.headersTimeoutMs} ms`;
        this.#refuse(new Refusal(408, "request_header_timeout", sentence));
        break;
      }
      case "stream":
        if (this.#answer === "none" && this.#reader.inBody)
          this.#refuse(new Refusal(408, "stream_idle_timeout", "the request body stood still for too long"));
        else this.#break("SI", "stream_idle_timeout");
        break;
      case "idle":
        this.#finish();
        break;
      case "linger":
        this.#socket.destroy();
    }
  }
}
