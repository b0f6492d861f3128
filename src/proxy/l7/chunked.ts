import { endOfHead, parseTrailers } from "./head.ts";
import type { Headers } from "./headers.ts";
import { limits, Refusal } from "./message.ts";

const hexDigit = new Int8Array(256).fill(-1);
for (let i = 0; i < 16; i++) {
  hexDigit["0123456789abcdef".charCodeAt(i)] = i;
  hexDigit["0123456789ABCDEF".charCodeAt(i)] = i;
}

const refuse = (message: string, status = 400, details = "http1.codec_error"): never => {
  throw new Refusal(status, details, message);
};

type State = "size" | "size-lf" | "extension" | "data" | "data-cr" | "data-lf" | "trailers" | "done";

/**
 * Reads the chunked coding (RFC 9112 §7.1) as the bytes come. Strict: hexadecimal digits, CRLF; extensions are dropped
 * and bounded, as sizes and trailers are.
 */
export class ChunkedReader {
  trailers: Headers | undefined;
  #state: State = "size";
  #size = 0;
  #digits = 0;
  #extensionBytes = 0;
  /** Trailer bytes that do not yet end in a blank line. */
  #held: Buffer | undefined;

  get done(): boolean {
    return this.#state === "done";
  }

  /** Hands the data in `bytes` from `at` to `sink`, as slices. Returns where it stopped: the end, or after the message. */
  read(bytes: Buffer, at: number, sink: (data: Buffer) => void): number {
    const length = bytes.length;
    let i = at;
    while (i < length) {
      switch (this.#state) {
        case "size": {
          const byte = bytes[i]!;
          const digit = hexDigit[byte]!;
          if (digit >= 0) {
            // Thirteen digits reach past 2^48 bytes; more are an attack on somebody's integers.
            if (++this.#digits > 13) refuse("a chunk size of more than 13 digits", 413, "payload_too_large");
            this.#size = this.#size * 16 + digit;
            i++;
            break;
          }
          if (this.#digits === 0) refuse("a chunk does not begin with its size");
          if (byte === 13) this.#state = "size-lf";
          else if (byte === 59) this.#state = "extension";
          else refuse("a chunk size has other characters than hexadecimal digits");
          i++;
          break;
        }
        case "extension": {
          const byte = bytes[i]!;
          if (++this.#extensionBytes > limits.chunkExtensionBytes)
            refuse(`chunk extensions of more than ${limits.chunkExtensionBytes} bytes`, 413, "payload_too_large");
          if (byte === 13) this.#state = "size-lf";
          else if ((byte < 32 && byte !== 9) || byte === 127) refuse("a control character in a chunk extension");
          i++;
          break;
        }
        case "size-lf":
          if (bytes[i] !== 10) refuse("a chunk size is followed by CR without LF");
          i++;
          this.#digits = 0;
          this.#state = this.#size === 0 ? "trailers" : "data";
          break;
        case "data": {
          const take = Math.min(this.#size, length - i);
          sink(i === 0 && take === length ? bytes : bytes.subarray(i, i + take));
          this.#size -= take;
          i += take;
          if (this.#size === 0) this.#state = "data-cr";
          break;
        }
        case "data-cr":
          if (bytes[i] !== 13) refuse("a chunk is longer than its size");
          i++;
          this.#state = "data-lf";
          break;
        case "data-lf":
          if (bytes[i] !== 10) refuse("a chunk is followed by CR without LF");
          i++;
          this.#state = "size";
          break;
        case "trailers":
          return this.#readTrailers(bytes, i);
        case "done":
          return i;
      }
    }
    return i;
  }

  #readTrailers(bytes: Buffer, at: number): number {
    const before = this.#held?.length ?? 0;
    const all = this.#held ? Buffer.concat([this.#held, bytes.subarray(at)]) : bytes.subarray(at);
    if (all.length >= 2 && all[0] === 13) {
      if (all[1] !== 10) refuse("CR without LF after the last chunk");
      this.#state = "done";
      this.#held = undefined;
      return at + 2 - before;
    }
    const end = endOfHead(all, 0, before, limits.headBytes);
    if (end < 0) {
      this.#held = this.#held ? all : Buffer.from(all);
      return bytes.length;
    }
    this.trailers = parseTrailers(all.toString("latin1", 0, end + 2));
    if (this.trailers.length === 0) this.trailers = undefined;
    this.#state = "done";
    this.#held = undefined;
    return at + end + 4 - before;
  }
}
