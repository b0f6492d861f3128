import type { Duplex } from "node:stream";
import { keep, lend } from "../l4/read-buffers.ts";
import { atTurnEnd } from "../l4/turn-end.ts";
import type { Headers } from "./headers.ts";
import { limits } from "./message.ts";

/** Up to here head and body are copied into one buffer, because one write costs more than the copy. In bytes. */
const copyBelow = 16 * 1024;

/** Up to here a piece of a body is written as the text that its bytes are in latin1: one write of one string. In bytes. */
const textBelow = 2048;

/** Text of the fields, each with its CRLF. */
export function fieldLines(headers: Headers): string {
  let text = "";
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return text;
}

/**
 * Collects what belongs to one message and writes it at once: when the message ends, when all that has come has been read,
 * or when it has grown past a buffer.
 */
export class MessageWriter {
  readonly #socket: Duplex;
  #text = "";
  #parts: Array<Buffer | string> = [];
  /** Of each part: what gives its bytes back to the socket that read them, where they are lent. */
  #releases: Array<(() => void) | undefined> = [];
  #bytes = 0;
  #scheduled = false;
  #chunked = false;
  readonly #flushLater = () => {
    this.#scheduled = false;
    this.flush();
  };
  /** Bytes given to the socket so far. */
  written = 0;

  constructor(socket: Duplex) {
    this.#socket = socket;
  }

  head(text: string, chunked: boolean): void {
    this.#chunked = chunked;
    this.#text += text;
  }

  /** False when the reader is slow: wait for the socket's `drain`. */
  data(chunk: Buffer): boolean {
    if (chunk.length === 0) return !this.#socket.writableNeedDrain;
    if (chunk.length <= textBelow && this.#parts.length === 0) {
      const text = chunk.toString("latin1");
      this.#text += this.#chunked ? `${chunk.length.toString(16)}\r\n${text}\r\n` : text;
    } else if (this.#chunked) {
      this.#add(`${chunk.length.toString(16)}\r\n`);
      this.#add(chunk);
      this.#add("\r\n");
    } else {
      this.#add(chunk);
    }
    if (this.#bytes + this.#text.length >= limits.watermarkBytes) this.flush();
    else this.schedule();
    return !this.#socket.writableNeedDrain;
  }

  /** Ends the message: the last chunk and trailers where there are chunks. */
  end(trailers: Headers | undefined): void {
    if (this.#chunked) {
      const last = trailers ? `0\r\n${fieldLines(trailers)}\r\n` : "0\r\n\r\n";
      if (this.#parts.length === 0) this.#text += last;
      else this.#add(last);
    }
    this.#chunked = false;
    this.flush();
  }

  /** Writes when all that has come in this turn has been read, unless something writes before. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    atTurnEnd(this.#flushLater);
  }

  flush(): void {
    const socket = this.#socket;
    const text = this.#text;
    const parts = this.#parts;
    if (parts.length === 0) {
      if (text === "") return;
      this.#text = "";
      this.written += text.length;
      if (!socket.destroyed && !socket.writableEnded) socket.write(text, "latin1");
      return;
    }
    const total = text.length + this.#bytes;
    const releases = this.#releases;
    this.#text = "";
    this.#parts = [];
    this.#releases = [];
    this.#bytes = 0;
    this.written += total;
    if (socket.destroyed || socket.writableEnded) {
      for (const release of releases) release?.();
      return;
    }
    if (total <= copyBelow) {
      const all = Buffer.allocUnsafe(total);
      let at = text === "" ? 0 : all.write(text, 0, "latin1");
      for (const part of parts) {
        if (typeof part === "string") at += all.write(part, at, "latin1");
        else {
          all.set(part, at);
          at += part.length;
        }
      }
      for (const release of releases) release?.();
      socket.write(all);
      return;
    }
    socket.cork();
    if (text !== "") socket.write(text, "latin1");
    for (const [i, part] of parts.entries()) {
      if (typeof part === "string") socket.write(part, "latin1");
      else socket.write(part, releases[i]);
    }
    socket.uncork();
  }

  #add(part: Buffer | string): void {
    const release = typeof part === "string" ? undefined : lend(part);
    this.#parts.push(typeof part === "string" || release ? part : keep(part));
    this.#releases.push(release);
    this.#bytes += part.length;
  }
}
