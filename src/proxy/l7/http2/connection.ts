import type { Duplex } from "node:stream";
import { takeReads } from "../../l4/reads.ts";
import { FrameReader, type FrameSink } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";
import { ConnectionError, codes, defaults, flags, frameTypes, most31, preface, settingIds } from "./frames.ts";
import { type FieldBlock, HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { Http2Stream, type StreamHome } from "./stream.ts";

export interface Http2Options {
  readonly side: "client" | "server";
  readonly socket: Duplex;
  /** Streams that the peer may have open at once; a client's peer may have none. */
  readonly maxStreams: number;
  /** What is received of one stream, and of all together, before it must have been used. In bytes, at least 65,535. */
  readonly windows: { readonly stream: number; readonly connection: number };
  /** What is accepted of one block of fields; bytes as RFC 9113 §6.5.2 counts them. */
  readonly head: { readonly bytes: number; readonly fields: number };
  readonly events: Http2Events;
}

/** What a peer did that is counted, because it costs us more than it costs the peer. */
export type Counted = "reset" | "ping" | "settings" | "empty";

export interface Http2Events {
  /** A server's: the peer opened a stream, with these fields. */
  onStream(stream: Http2Stream, block: FieldBlock, end: boolean): void;
  onSettings(): void;
  /** The peer answered our ping. */
  onPong(): void;
  /** The peer takes no more streams. */
  onGoaway(): void;
  onCounted(what: Counted): void;
  /** A stream is through, however it ended. */
  onStreamClosed(stream: Http2Stream): void;
  /** The connection carries nothing more; the socket goes after it. `broken` as of a stream that is lost with it. */
  onEnded(why: string, broken: boolean): void;
}

/** A block of fields whose frames have not all come. */
interface OpenBlock {
  readonly stream: number;
  readonly end: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

/** CONTINUATION frames of one block. Whole ones of the usual size hold far more fields than are accepted. */
const mostContinuations = 32;

/** Streams that are remembered as reset from here. */
const mostRemembered = 512;

/** What may wait in the socket before nothing more is read: answers to a peer that does not read them. In bytes. */
const mostUnread = 1024 * 1024;

/** Both sides of HTTP/2 on one connection (RFC 9113): frames, fields, windows, the life of streams. What is asked and answered is for its owner. */
export class Http2Connection implements FrameSink, StreamHome {
  readonly writer: FrameWriter;
  readonly blocked = new Set<Http2Stream>();
  readonly thirsty = new Set<Http2Stream>();
  sendWindow: number = defaults.windowSize;
  /** Streams that the peer lets us have open at once; as many as there are identifiers until it has said so. */
  peerMaxStreams = most31;
  /** Nothing more is said or heard. */
  ended = false;
  readonly #options: Http2Options;
  readonly #socket: Duplex;
  readonly #reader: FrameReader;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #streams = new Map<number, Http2Stream>();
  #prefaceLeft: Buffer | undefined;
  #settingsSeen = false;
  /** SETTINGS that the peer has not acknowledged. */
  #unacknowledged = 0;
  #peerInitialWindow: number = defaults.windowSize;
  #receiveWindow: number;
  #usedBytes = 0;
  #openBlock: OpenBlock | undefined;
  #continuations = 0;
  /** The stream whose DATA is being read, and what is left of the frame. */
  #dataStream: Http2Stream | undefined;
  #dataLeft = 0;
  #dataLength = 0;
  /** The last stream that the peer opened, and the next that we open. */
  #lastPeerStream = 0;
  #nextStream = 1;
  /** A client's streams that were reset from here, of late: what comes of them is no fault. */
  readonly #weReset = new Set<number>();
  /** Of the peer's streams, those beyond are not begun; set by the second GOAWAY. */
  #lastAccepted = most31;
  #readPaused = false;

  constructor(options: Http2Options) {
    const { socket, side } = options;
    this.#options = options;
    this.#socket = socket;
    this.#receiveWindow = options.windows.connection;
    this.writer = new FrameWriter(socket, this.#encoder);
    this.#reader = new FrameReader(this);
    this.#prefaceLeft = side === "server" ? preface : undefined;
  }

  /** Says who we are, and begins to read. */
  start(): void {
    const { side, maxStreams, windows, head } = this.#options;
    if (side === "client") this.writer.raw(preface);
    this.writer.settings([
      side === "client" ? [settingIds.enablePush, 0] : [settingIds.maxConcurrentStreams, maxStreams],
      [settingIds.initialWindowSize, windows.stream],
      [settingIds.maxHeaderListSize, head.bytes],
    ]);
    this.#unacknowledged++;
    if (windows.connection > defaults.windowSize) this.writer.windowUpdate(0, windows.connection - defaults.windowSize);
    const socket = this.#socket;
    let why = "the connection was closed";
    // What an error means is said by the close that follows it.
    socket.on("error", (error: Error) => {
      why = error.message;
    });
    // Sockets here may be half-open; whoever has ended its side can no longer ask for more of an answer.
    socket.on("end", () => {
      this.#lost("the connection was ended by the other side");
      socket.destroy();
    });
    socket.on("close", () => this.#lost(why));
    socket.on("drain", () => this.#onDrain());
    if (socket.destroyed) this.#lost(why);
    else takeReads(socket, (bytes) => this.#onBytes(bytes));
  }

  get active(): number {
    return this.#streams.size;
  }

  get full(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Whether a client can open another stream. */
  get open(): boolean {
    return !this.ended && this.#nextStream < most31;
  }

  /** A client's: opens a stream with these fields. */
  request(fields: readonly string[], end: boolean): Http2Stream {
    const stream = this.#addStream(this.#nextStream);
    this.#nextStream += 2;
    stream.fields(fields, end);
    return stream;
  }

  ping(): void {
    if (!this.ended) this.writer.ping(pingPayload, false);
  }

  /**
   * Tells the peer to open no more streams. Those that are on their way are still served when `last` is `"any"`; with
   * `"seen"` none that has not been seen is.
   */
  goaway(last: "any" | "seen"): void {
    if (this.ended) return;
    if (last === "seen") this.#lastAccepted = this.#lastPeerStream;
    this.writer.goaway(last === "any" ? most31 : this.#lastPeerStream, codes.noError);
  }

  /** Ends the connection in order: what is said already goes out. Streams that run are lost. */
  close(): void {
    this.#finish(codes.noError, "the connection was closed");
  }

  /** Ends the connection because of what the peer did, and tells it what that was. */
  fail(code: number, message: string): void {
    this.#finish(code, message);
  }

  destroy(): void {
    this.#lost("the connection was closed");
    this.#socket.destroy();
  }

  // ---- reading

  #onBytes(bytes: Buffer): void {
    if (this.ended) return;
    try {
      let rest = bytes;
      if (this.#prefaceLeft) {
        const left = this.#prefaceLeft;
        const length = Math.min(left.length, rest.length);
        if (left.compare(rest, 0, length, 0, length) !== 0)
          throw new ConnectionError(codes.protocolError, "the connection does not begin as HTTP/2");
        this.#prefaceLeft = length === left.length ? undefined : left.subarray(length);
        rest = rest.subarray(length);
      }
      this.#reader.take(rest);
    } catch (caught) {
      if (!(caught instanceof ConnectionError)) throw caught;
      this.fail(caught.errorCode, caught.message);
      return;
    }
    if (!this.#readPaused && this.#socket.writableLength > mostUnread) {
      this.#readPaused = true;
      this.#socket.pause();
    }
  }

  #onDrain(): void {
    if (this.#readPaused) {
      this.#readPaused = false;
      this.#socket.resume();
    }
    for (const stream of [...this.thirsty]) {
      if (this.full) return;
      stream.drained();
    }
  }

  onFrame(type: number, has: number, id: number, payload: Buffer): void {
    if (!this.#settingsSeen && type !== frameTypes.settings) protocol("the first frame is not SETTINGS");
    if (this.#openBlock && (type !== frameTypes.continuation || this.#openBlock.stream !== id))
      protocol("another frame inside a block of fields");
    switch (type) {
      case frameTypes.headers:
        this.#onHeaders(has, id, payload);
        break;
      case frameTypes.continuation:
        this.#onContinuation(has, payload);
        break;
      case frameTypes.priority:
        if (id === 0) protocol("PRIORITY of no stream");
        if (payload.length !== 5) this.#streamError(id, codes.frameSizeError);
        break;
      case frameTypes.reset:
        this.#onReset(id, payload);
        break;
      case frameTypes.settings:
        this.#onSettings(has, id, payload);
        break;
      case frameTypes.pushPromise:
        protocol("PUSH_PROMISE, which nobody may send here");
        break;
      case frameTypes.ping:
        if (id !== 0) protocol("PING of a stream");
        sized(payload, 8, "PING");
        if (has & flags.ack) this.#options.events.onPong();
        else {
          this.writer.ping(payload, true);
          this.#options.events.onCounted("ping");
        }
        break;
      case frameTypes.goaway:
        if (id !== 0) protocol("GOAWAY of a stream");
        if (payload.length < 8) throw new ConnectionError(codes.frameSizeError, "a GOAWAY that is too short");
        this.#onGoaway(payload.readUInt32BE(0) & most31);
        break;
      case frameTypes.windowUpdate:
        this.#onWindowUpdate(id, payload);
        break;
      default:
      // Frames of other types have no meaning, and no fault (RFC 9113 §4.1).
    }
  }

  #onHeaders(has: number, id: number, payload: Buffer): void {
    if (id === 0) protocol("HEADERS of no stream");
    let from = 0;
    let to = payload.length;
    if (has & flags.padded) {
      if (to === 0) protocol("padding that is longer than its frame");
      to -= payload[0]!;
      from = 1;
    }
    if (has & flags.priority) from += 5;
    if (from > to) protocol("padding that is longer than its frame");
    const end = (has & flags.endStream) !== 0;
    const part = payload.subarray(from, to);
    if (has & flags.endHeaders) this.#onBlock(id, part, end);
    else {
      this.#continuations = 0;
      this.#openBlock = { stream: id, end, parts: [Buffer.from(part)], bytes: part.length };
    }
  }

  #onContinuation(has: number, payload: Buffer): void {
    const open = this.#openBlock;
    if (!open) throw new ConnectionError(codes.protocolError, "CONTINUATION of no block of fields");
    open.parts.push(Buffer.from(payload));
    open.bytes += payload.length;
    if (open.bytes > this.#options.head.bytes || ++this.#continuations > mostContinuations)
      throw new ConnectionError(codes.enhanceYourCalm, "a block of fields that does not end");
    if ((has & flags.endHeaders) === 0) return;
    this.#openBlock = undefined;
    this.#onBlock(open.stream, Buffer.concat(open.parts), open.end);
  }

  #onBlock(id: number, bytes: Buffer, end: boolean): void {
    // Read whatever becomes of it: those that follow build on it.
    const block = this.#decoder.decode(bytes, this.#options.head);
    const stream = this.#streams.get(id);
    if (stream) {
      if (stream.remoteEnded) this.#streamError(id, codes.streamClosed);
      else stream.receiveFields(block, end);
      return;
    }
    if (!this.#mayBe(id)) {
      this.#late(id);
      this.#options.events.onCounted("reset");
      return;
    }
    if (this.#options.side === "client") protocol("a stream that was never opened");
    if (id % 2 === 0) protocol("a client's stream with an even number");
    this.#lastPeerStream = id;
    if (id > this.#lastAccepted) return;
    if (this.#streams.size >= this.#options.maxStreams) {
      this.writer.reset(id, codes.refusedStream);
      this.#remember(id);
      this.#options.events.onCounted("reset");
      return;
    }
    const opened = this.#addStream(id);
    if (end) opened.remoteEnded = true;
    this.#options.events.onStream(opened, block, end);
  }

  onDataBegin(id: number, length: number): void {
    if (!this.#settingsSeen || this.#openBlock) protocol("DATA where none may be");
    if (id === 0 || this.#mayBe(id)) protocol("DATA of a stream that was never opened");
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0)
      throw new ConnectionError(codes.flowControlError, "more data than the connection's window allows");
    this.#dataLeft = this.#dataLength = length;
    const stream = this.#streams.get(id);
    this.#dataStream = stream;
    if (!stream) this.#late(id);
    else if (stream.remoteEnded) this.#streamError(id, codes.streamClosed);
    else if (!stream.take(length)) this.#streamError(id, codes.flowControlError);
  }

  onData(bytes: Buffer): void {
    this.#dataLeft -= bytes.length;
    const stream = this.#dataStream;
    if (stream && !stream.closed) stream.receive(bytes);
    else this.used(bytes.length);
  }

  onDataEnd(endStream: boolean): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    const padding = this.#dataLeft;
    if (!stream || stream.closed) {
      if (padding > 0) this.used(padding);
      return;
    }
    if (padding > 0) stream.used(padding);
    if (endStream) stream.receiveEnd();
    else if (this.#dataLength === 0) this.#options.events.onCounted("empty");
  }

  /** Something of a stream that is gone. It may have been on its way when we reset it; whoever ended it itself knew better. */
  #late(id: number): void {
    if (this.#options.side === "server" && id <= this.#lastAccepted && !this.#weReset.has(id))
      throw new ConnectionError(codes.streamClosed, "a frame of a stream that was ended");
  }

  #onReset(id: number, payload: Buffer): void {
    if (id === 0 || this.#mayBe(id)) protocol("RST_STREAM of a stream that was never opened");
    sized(payload, 4, "RST_STREAM");
    this.#streams.get(id)?.resetByPeer(payload.readUInt32BE(0));
  }

  #onSettings(has: number, id: number, payload: Buffer): void {
    const { events } = this.#options;
    if (id !== 0) protocol("SETTINGS of a stream");
    this.#settingsSeen = true;
    if (has & flags.ack) {
      sized(payload, 0, "an acknowledgement of SETTINGS");
      if (--this.#unacknowledged < 0) events.onCounted("settings");
      return;
    }
    if (payload.length % 6 !== 0) throw new ConnectionError(codes.frameSizeError, "SETTINGS that are cut off");
    for (let at = 0; at < payload.length; at += 6)
      this.#onSetting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.writer.settingsAck();
    events.onCounted("settings");
    events.onSettings();
  }

  #onSetting(id: number, value: number): void {
    switch (id) {
      case settingIds.headerTableSize:
        this.#encoder.resize(value);
        break;
      case settingIds.enablePush:
        if (value > (this.#options.side === "server" ? 1 : 0)) protocol("ENABLE_PUSH with a value that it has not");
        break;
      case settingIds.maxConcurrentStreams:
        this.peerMaxStreams = value;
        break;
      case settingIds.initialWindowSize: {
        if (value > most31) throw new ConnectionError(codes.flowControlError, "an initial window beyond 2^31 − 1");
        const change = value - this.#peerInitialWindow;
        this.#peerInitialWindow = value;
        for (const stream of [...this.#streams.values()])
          if (!stream.widen(change)) throw new ConnectionError(codes.flowControlError, "a window beyond 2^31 − 1");
        break;
      }
      case settingIds.maxFrameSize:
        // Ours are never longer than every peer takes.
        if (value < defaults.maxFrameSize || value > 0xffffff) protocol("a frame size that may not be");
        break;
      default:
      // Of the others we need nothing.
    }
  }

  #onGoaway(last: number): void {
    if (this.#options.side === "client")
      for (const stream of [...this.#streams.values()]) if (stream.id > last) stream.lose({ kind: "refused" });
    this.#options.events.onGoaway();
  }

  #onWindowUpdate(id: number, payload: Buffer): void {
    sized(payload, 4, "WINDOW_UPDATE");
    const bytes = payload.readUInt32BE(0) & most31;
    if (id !== 0) {
      if (this.#mayBe(id)) protocol("WINDOW_UPDATE of a stream that was never opened");
      if (bytes === 0) this.#streamError(id, codes.protocolError);
      else if (this.#streams.get(id)?.widen(bytes) === false) this.#streamError(id, codes.flowControlError);
      return;
    }
    if (bytes === 0) protocol("a WINDOW_UPDATE of nothing");
    this.sendWindow += bytes;
    if (this.sendWindow > most31)
      throw new ConnectionError(codes.flowControlError, "the connection's window beyond 2^31 − 1");
    for (const stream of [...this.blocked]) {
      if (this.sendWindow <= 0) return;
      // Who has had a turn waits behind the others.
      this.blocked.delete(stream);
      this.blocked.add(stream);
      stream.pump();
    }
  }

  /** Whether a stream of this number has not been opened yet. */
  #mayBe(id: number): boolean {
    return this.#options.side === "server"
      ? id > this.#lastPeerStream || id % 2 === 0
      : id >= this.#nextStream || id % 2 === 0;
  }

  #streamError(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    const { handler } = stream;
    stream.reset(code);
    handler?.onClosed({ kind: "reset", code });
  }

  // ---- for the streams

  used(bytes: number): void {
    if (this.ended) return;
    this.#usedBytes += bytes;
    if (this.#usedBytes * 2 < this.#options.windows.connection) return;
    this.#receiveWindow += this.#usedBytes;
    this.writer.windowUpdate(0, this.#usedBytes);
    this.#usedBytes = 0;
  }

  closed(stream: Http2Stream, { cut, byUs }: { readonly cut: boolean; readonly byUs: boolean }): void {
    if (!this.#streams.delete(stream.id)) return;
    const { events } = this.#options;
    if (byUs) this.#remember(stream.id);
    if (cut) events.onCounted("reset");
    events.onStreamClosed(stream);
  }

  #remember(id: number): void {
    if (this.#options.side === "client") return;
    this.#weReset.add(id);
    if (this.#weReset.size > mostRemembered)
      for (const oldest of this.#weReset) return void this.#weReset.delete(oldest);
  }

  #addStream(id: number): Http2Stream {
    const stream = new Http2Stream(id, this, { send: this.#peerInitialWindow, receive: this.#options.windows.stream });
    this.#streams.set(id, stream);
    return stream;
  }

  // ---- ending

  #finish(code: number, why: string): void {
    if (this.ended) return;
    const broken = code !== codes.noError;
    this.writer.goaway(this.#lastPeerStream, code, broken ? why : "");
    this.writer.flush();
    // What still comes is read and dropped, so that no reset overtakes what was said.
    this.#socket.resume();
    this.#socket.end();
    this.#lost(why, broken);
  }

  #lost(why: string, broken = false): void {
    if (this.ended) return;
    this.ended = true;
    this.#reader.stop();
    this.writer.flush();
    for (const stream of [...this.#streams.values()]) stream.lose({ kind: "lost", why, broken });
    this.#options.events.onEnded(why, broken);
  }
}

const pingPayload = Buffer.from("isthmus?");

function protocol(message: string): never {
  throw new ConnectionError(codes.protocolError, message);
}

function sized(payload: Buffer, length: number, what: string): void {
  if (payload.length !== length)
    throw new ConnectionError(codes.frameSizeError, `${what} with ${payload.length} bytes in place of ${length}`);
}
