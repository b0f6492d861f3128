import type { Duplex } from "node:stream";
import { keep, lend } from "../../l4/read-buffers.ts";
import { atTurnEnd } from "../../l4/turn-end.ts";
import { defaults, flags, frameHeadBytes, frameTypes } from "./frames.ts";
import { type HpackEncoder, mostBytesOf } from "./hpack-encoder.ts";

/** Up to here what DATA holds is copied behind its frame's head, because one more piece to write costs more. In bytes. */
const copyBelow = 2048;

/** From here on what has been collected is written before the turn ends. In bytes. */
const watermark = 64 * 1024;

/** What frames are written into: all connections share one piece of memory until it is full, and take a new one then. */
let slab = Buffer.allocUnsafeSlow(16 * 1024);
let slabAt = 0;

/**
 * Collects the frames of one connection and writes them at once: when all that has come in this turn of the event loop has
 * been read, or when they have grown large.
 */
export class FrameWriter {
  readonly #socket: Duplex;
  readonly #encoder: HpackEncoder;
  /** Where frames go now; of it, what is used and not yet in `#parts` is between the two. */
  #buffer: Buffer = slab;
  #from = 0;
  #at = 0;
  #end = 0;
  #parts: Buffer[] = [];
  /** Of each part: what gives its bytes back to the socket that read them, where they are lent. */
  #releases: Array<(() => void) | undefined> = [];
  #partBytes = 0;
  #scheduled = false;
  /** Frames written so far. */
  #frames = 0;
  /** The DATA frame that was written last, as long as it has not gone out: which of the frames it is, where its head is. */
  readonly #lastData = { stream: 0, frame: 0, buffer: slab as Buffer, head: 0, length: 0 };
  readonly #flushLater = () => {
    this.#scheduled = false;
    this.flush();
  };

  constructor(socket: Duplex, encoder: HpackEncoder) {
    this.#socket = socket;
    this.#encoder = encoder;
  }

  raw(bytes: Buffer): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  settings(settings: ReadonlyArray<readonly [id: number, value: number]>): void {
    this.#head(settings.length * 6, frameTypes.settings, 0, 0);
    for (const [id, value] of settings) {
      this.#uint16(id);
      this.#uint32(value);
    }
  }

  settingsAck(): void {
    this.#head(0, frameTypes.settings, flags.ack, 0);
  }

  /** `fields` as a flat list of names and values, pseudo-fields first. */
  headers(stream: number, fields: readonly string[], endStream: boolean): void {
    const most = mostBytesOf(fields);
    this.#room(frameHeadBytes + most);
    const head = this.#at;
    this.#at += frameHeadBytes;
    const from = this.#at;
    this.#at = this.#encoder.encode(fields, this.#buffer, from);
    const length = this.#at - from;
    const end = endStream ? flags.endStream : 0;
    if (length <= defaults.maxFrameSize) {
      this.#headAt(head, length, frameTypes.headers, flags.endHeaders | end, stream);
      return;
    }
    // Too much for one frame: the rest goes into CONTINUATION.
    const block = Buffer.from(this.#buffer.subarray(from, this.#at));
    this.#at = head;
    for (let at = 0; at < length; at += defaults.maxFrameSize) {
      const piece = block.subarray(at, at + defaults.maxFrameSize);
      const last = at + defaults.maxFrameSize >= length ? flags.endHeaders : 0;
      if (at === 0) this.#head(piece.length, frameTypes.headers, end | last, stream);
      else this.#head(piece.length, frameTypes.continuation, last, stream);
      this.raw(piece);
    }
  }

  /** At most so much as the windows allow. The bytes are the caller's again after the call. */
  data(stream: number, bytes: Buffer): void {
    const last = this.#lastData;
    let from = 0;
    // What came in pieces goes out in one frame, where nothing was written in between.
    if (last.stream === stream && last.frame === this.#frames) from = this.#append(bytes, 0);
    while (from < bytes.length) {
      this.#head(0, frameTypes.data, 0, stream);
      last.stream = stream;
      last.frame = this.#frames;
      last.buffer = this.#buffer;
      last.head = this.#at - frameHeadBytes;
      last.length = 0;
      from = this.#append(bytes, from);
    }
    if (this.#partBytes >= watermark) this.flush();
  }

  /** Adds to the last DATA frame what it can still hold; returns how much of `bytes` has gone then. */
  #append(bytes: Buffer, from: number): number {
    const last = this.#lastData;
    const to = Math.min(bytes.length, from + defaults.maxFrameSize - last.length);
    if (to === from) return from;
    last.length += to - from;
    last.buffer[last.head] = last.length >>> 16;
    last.buffer[last.head + 1] = last.length >>> 8;
    last.buffer[last.head + 2] = last.length;
    const piece = from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to);
    if (piece.length <= copyBelow) this.raw(piece);
    else this.#add(piece);
    return to;
  }

  /** Ends the stream: by its last DATA frame, where that has not gone out, else by an empty one. */
  endData(stream: number): void {
    const last = this.#lastData;
    if (last.stream === stream) last.buffer[last.head + 4]! |= flags.endStream;
    else this.#head(0, frameTypes.data, flags.endStream, stream);
  }

  reset(stream: number, code: number): void {
    this.#head(4, frameTypes.reset, 0, stream);
    this.#uint32(code);
  }

  windowUpdate(stream: number, bytes: number): void {
    this.#head(4, frameTypes.windowUpdate, 0, stream);
    this.#uint32(bytes);
  }

  ping(payload: Buffer, ack: boolean): void {
    this.#head(8, frameTypes.ping, ack ? flags.ack : 0, 0);
    this.raw(payload);
  }

  /** `words` are for whoever looks into the peer's logs (RFC 9113 §6.8). */
  goaway(lastStream: number, code: number, words = ""): void {
    const debug = Buffer.from(words);
    this.#head(8 + debug.length, frameTypes.goaway, 0, 0);
    this.#uint32(lastStream);
    this.#uint32(code);
    this.raw(debug);
  }

  flush(): void {
    const socket = this.#socket;
    this.#lastData.stream = 0;
    if (this.#parts.length === 0) {
      const used = this.#used();
      this.#giveBack();
      if (used && !socket.destroyed && !socket.writableEnded) socket.write(used);
      return;
    }
    this.#cut();
    this.#giveBack();
    const parts = this.#parts;
    const releases = this.#releases;
    this.#parts = [];
    this.#releases = [];
    this.#partBytes = 0;
    if (socket.destroyed || socket.writableEnded) {
      for (const release of releases) release?.();
      return;
    }
    socket.cork();
    for (const [i, part] of parts.entries()) socket.write(part, releases[i]);
    socket.uncork();
  }

  #used(): Buffer | undefined {
    return this.#at > this.#from ? this.#buffer.subarray(this.#from, this.#at) : undefined;
  }

  #head(length: number, type: number, has: number, stream: number): void {
    this.#room(frameHeadBytes + length);
    this.#headAt(this.#at, length, type, has, stream);
    this.#at += frameHeadBytes;
  }

  #headAt(at: number, length: number, type: number, has: number, stream: number): void {
    this.#frames++;
    const buffer = this.#buffer;
    buffer[at] = length >>> 16;
    buffer[at + 1] = length >>> 8;
    buffer[at + 2] = length;
    buffer[at + 3] = type;
    buffer[at + 4] = has;
    buffer[at + 5] = stream >>> 24;
    buffer[at + 6] = stream >>> 16;
    buffer[at + 7] = stream >>> 8;
    buffer[at + 8] = stream;
  }

  #uint16(value: number): void {
    this.#buffer[this.#at++] = value >>> 8;
    this.#buffer[this.#at++] = value;
  }

  #uint32(value: number): void {
    this.#uint16(value >>> 16);
    this.#uint16(value);
  }

  /** Sees to it that so many bytes more can be written where `#at` is, and that they go out. */
  #room(bytes: number): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      atTurnEnd(this.#flushLater);
    }
    if (this.#end - this.#at >= bytes) return;
    this.#cut();
    this.#giveBack();
    const wanted = Math.max(bytes, copyBelow);
    if (wanted > slab.length / 2) {
      this.#buffer = Buffer.allocUnsafeSlow(wanted);
      this.#from = this.#at = 0;
      this.#end = wanted;
      return;
    }
    if (slab.length - slabAt < wanted) {
      slab = Buffer.allocUnsafeSlow(slab.length);
      slabAt = 0;
    }
    this.#buffer = slab;
    this.#from = this.#at = slabAt;
    slabAt += wanted;
    this.#end = slabAt;
  }

  /** What is not used of the shared piece is for the next. */
  #giveBack(): void {
    if (this.#buffer === slab && this.#end === slabAt) slabAt = this.#at;
    this.#from = this.#at = this.#end = 0;
  }

  #cut(): void {
    const used = this.#used();
    this.#from = this.#at;
    if (!used) return;
    this.#parts.push(used);
    this.#releases.push(undefined);
    this.#partBytes += used.length;
  }

  #add(piece: Buffer): void {
    this.#cut();
    const release = lend(piece);
    this.#parts.push(release ? piece : keep(piece));
    this.#releases.push(release);
    this.#partBytes += piece.length;
  }
}
