import { keep } from "../l4/read-buffers.ts";
import { ChunkedReader } from "./chunked.ts";
import { endOfHead, type Http1Request, parseRequestHead } from "./head.ts";
import type { Headers } from "./headers.ts";

/** Whoever is told of requests as they come in. */
export interface RequestSink {
  /** The first byte of a head is there. */
  onHeadBegins(): void;
  /** `bytes` is how long the head was. */
  onHead(request: Http1Request, bytes: number): void;
  onBody(data: Buffer): void;
  onBodyEnd(trailers: Headers | undefined): void;
}

/** What is read next: nothing until the present request is answered, or for good. */
type Part = "head" | "body" | "chunks" | "nothing";

/**
 * Cuts the bytes of one connection into requests, one at a time: what comes early waits until `next`. Throws a `Refusal`
 * where they are no HTTP; nothing can be read after that.
 */
export class RequestReader {
  readonly #sink: RequestSink;
  readonly #maxHeadBytes: number;
  #part: Part = "head";
  /** Unread bytes: part of a head, or requests that came early. */
  #held: Buffer | undefined;
  /** How far what is held has been read, while it is being read. */
  #at = 0;
  #searched = 0;
  #begun = false;
  #remaining = 0;
  #chunks: ChunkedReader | undefined;
  #running = false;

  constructor(sink: RequestSink, maxHeadBytes: number) {
    this.#sink = sink;
    this.#maxHeadBytes = maxHeadBytes;
  }

  /** Inside a body, more of which must come. */
  get inBody(): boolean {
    return this.#part === "body" || this.#part === "chunks";
  }

  /** Bytes wait that have not been read. */
  get holds(): boolean {
    return this.#held !== undefined;
  }

  take(bytes: Buffer): void {
    if (this.#held) this.#held = Buffer.concat([this.#held, bytes]);
    else {
      this.#held = bytes;
      this.#searched = 0;
    }
    this.#run();
  }

  /** The present request is answered: the next may be read. */
  next(): void {
    this.#part = "head";
    this.#begun = false;
    this.#run();
  }

  /** Reads no more, and gives what it held. */
  stop(): Buffer | undefined {
    const held = this.#held;
    this.#part = "nothing";
    this.#held = undefined;
    return held && this.#at < held.length ? held.subarray(this.#at) : undefined;
  }

  /** Reads as far as it goes. Not entered twice: an answer that is there at once is found by the loop. */
  #run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#held !== undefined) {
        const bytes: Buffer = this.#held;
        const at = this.#at;
        if (at >= bytes.length) {
          this.#held = undefined;
          return;
        }
        const next = this.#read(bytes, at);
        if (next < 0) {
          this.#held = keep(at === 0 ? bytes : bytes.subarray(at));
          return;
        }
        this.#at = next;
      }
    } catch (caught) {
      this.stop();
      throw caught;
    } finally {
      this.#running = false;
      this.#at = 0;
    }
  }

  /** Returns where it stopped, or −1 when it needs more bytes, or may not go on. */
  #read(bytes: Buffer, at: number): number {
    switch (this.#part) {
      case "head":
        return this.#readHead(bytes, at);
      case "body": {
        const end = Math.min(at + this.#remaining, bytes.length);
        this.#remaining -= end - at;
        this.#sink.onBody(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end));
        if (this.#remaining === 0) this.#bodyEnded(undefined);
        return end;
      }
      case "chunks": {
        const chunks = this.#chunks!;
        const end = chunks.read(bytes, at, this.#onChunk);
        if (chunks.done) this.#bodyEnded(chunks.trailers);
        return end;
      }
      case "nothing":
        return -1;
    }
  }

  readonly #onChunk = (data: Buffer): void => this.#sink.onBody(data);

  #bodyEnded(trailers: Headers | undefined): void {
    if (!this.inBody) return;
    this.#chunks = undefined;
    this.#part = "nothing";
    this.#sink.onBodyEnd(trailers);
  }

  #readHead(bytes: Buffer, from: number): number {
    let at = from;
    // RFC 9112 §2.2: empty lines before a request are let pass; two are enough for any honest client.
    for (let lines = 0; lines < 2 && bytes[at] === 13 && bytes[at + 1] === 10; lines++) at += 2;
    if (at > from && at >= bytes.length) return at;
    const end = endOfHead(bytes, at, from === 0 ? this.#searched : at, this.#maxHeadBytes);
    if (!this.#begun) {
      this.#begun = true;
      this.#sink.onHeadBegins();
    }
    if (end < 0) {
      this.#searched = bytes.length - from;
      return -1;
    }
    this.#searched = 0;
    const request = parseRequestHead(bytes.toString("latin1", at, end + 2));
    if (request.chunked) {
      this.#chunks = new ChunkedReader();
      this.#part = "chunks";
    } else if (request.contentLength > 0) {
      this.#remaining = request.contentLength;
      this.#part = "body";
    } else {
      this.#part = "nothing";
    }
    this.#at = end + 4;
    this.#sink.onHead(request, end + 4 - at);
    return end + 4;
  }
}
