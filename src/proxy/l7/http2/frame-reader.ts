import { ConnectionError, codes, defaults, flags, frameHeadBytes, frameTypes } from "./frames.ts";

/** Bytes are the sink's for the length of the call only. */
export interface FrameSink {
  /** A whole frame, of any type but DATA. */
  onFrame(type: number, flags: number, stream: number, payload: Buffer): void;
  /** DATA begins; `length` counts against the windows, padding with it. */
  onDataBegin(stream: number, length: number): void;
  onData(bytes: Buffer): void;
  onDataEnd(endStream: boolean): void;
}

/** Cuts bytes into frames (RFC 9113 §4.1). What DATA holds is handed on as it comes, all else when it is whole. */
export class FrameReader {
  readonly #sink: FrameSink;
  #held: Buffer | undefined;
  /** Of the DATA frame being read, in bytes. */
  #dataLeft = 0;
  #dataFlags = 0;
  #inData = false;
  #stopped = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Throws `ConnectionError`, and whatever the sink does. */
  take(bytes: Buffer): void {
    let rest = bytes;
    if (this.#held) {
      rest = Buffer.concat([this.#held, bytes]);
      this.#held = undefined;
    }
    let at = 0;
    while (!this.#stopped) {
      if (this.#inData) {
        at = this.#takeData(rest, at);
        if (this.#inData) return;
      }
      const there = rest.length - at;
      if (there < frameHeadBytes) {
        if (there > 0) this.#held = Buffer.from(rest.subarray(at));
        return;
      }
      const length = (rest[at]! << 16) | (rest[at + 1]! << 8) | rest[at + 2]!;
      if (length > defaults.maxFrameSize)
        throw new ConnectionError(codes.frameSizeError, `a frame of ${length} bytes, more than was agreed on`);
      const type = rest[at + 3]!;
      const has = rest[at + 4]!;
      const stream = ((rest[at + 5]! & 0x7f) << 24) | (rest[at + 6]! << 16) | (rest[at + 7]! << 8) | rest[at + 8]!;
      const from = at + frameHeadBytes;
      if (type === frameTypes.data && (has & flags.padded) === 0) {
        this.#sink.onDataBegin(stream, length);
        this.#inData = true;
        this.#dataLeft = length;
        this.#dataFlags = has;
        at = from;
        continue;
      }
      if (there - frameHeadBytes < length) {
        this.#held = Buffer.from(rest.subarray(at));
        return;
      }
      at = from + length;
      if (type === frameTypes.data) this.#takePadded(has, stream, rest.subarray(from, at));
      else this.#sink.onFrame(type, has, stream, rest.subarray(from, at));
    }
  }

  /** Reads nothing more, not even what it holds. */
  stop(): void {
    this.#stopped = true;
    this.#held = undefined;
  }

  #takeData(bytes: Buffer, from: number): number {
    const to = Math.min(bytes.length, from + this.#dataLeft);
    if (to > from) {
      this.#dataLeft -= to - from;
      this.#sink.onData(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to));
    }
    if (this.#dataLeft === 0 && !this.#stopped) {
      this.#inData = false;
      this.#sink.onDataEnd((this.#dataFlags & flags.endStream) !== 0);
    }
    return to;
  }

  #takePadded(has: number, stream: number, payload: Buffer): void {
    const padding = payload.length > 0 ? payload[0]! : 0;
    if (padding >= payload.length)
      throw new ConnectionError(codes.protocolError, "more padding than the frame is long");
    this.#sink.onDataBegin(stream, payload.length);
    if (payload.length - padding > 1) this.#sink.onData(payload.subarray(1, payload.length - padding));
    if (!this.#stopped) this.#sink.onDataEnd((has & flags.endStream) !== 0);
  }
}
