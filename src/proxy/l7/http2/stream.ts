import { keep, lend } from "../../l4/read-buffers.ts";
import type { FrameWriter } from "./frame-writer.ts";
import { codes, most31 } from "./frames.ts";
import type { FieldBlock } from "./hpack-decoder.ts";

/** How a stream ended before both sides were whole. */
export type StreamEnd =
  /** By RST_STREAM, with its code. */
  | { readonly kind: "reset"; readonly code: number }
  /** The peer said GOAWAY and that it never began on this one. */
  | { readonly kind: "refused" }
  /** With the connection; `broken` when that was ended from here, because of what the peer did. */
  | { readonly kind: "lost"; readonly why: string; readonly broken: boolean };

/** What one side does with what comes on a stream. Bytes are its own for the length of the call only. */
export interface StreamHandler {
  /** A block of fields: for a client the answer's, and before it those of informational ones; for both, trailers. */
  onFields(block: FieldBlock, end: boolean): void;
  onData(bytes: Buffer): void;
  /** The other side is whole, without trailers. */
  onEnd(): void;
  /** Whoever was told to pause may go on. */
  onDrain(): void;
  onClosed(end: StreamEnd): void;
}

/** What a stream needs of its connection. */
export interface StreamHome {
  readonly writer: FrameWriter;
  /** What may be sent on all streams together, in bytes. */
  sendWindow: number;
  /** Whether the socket has more than it wants. */
  readonly full: boolean;
  /** Calls `pump` when the connection's window opens, and `onDrain` when the socket has written. */
  readonly blocked: Set<Http2Stream>;
  readonly thirsty: Set<Http2Stream>;
  /** So many received bytes have been used. */
  used(bytes: number): void;
  /** `cut` when one side was made to do work that the other then did not want, or did wrong; `byUs` when we reset it. */
  closed(stream: Http2Stream, how: { readonly cut: boolean; readonly byUs: boolean }): void;
}

/** What waits for the windows to open. */
interface Queued {
  readonly bytes: Buffer;
  readonly release: (() => void) | undefined;
}

/** One stream of a connection, from either side (RFC 9113 §5). */
export class Http2Stream {
  readonly id: number;
  handler: StreamHandler | undefined;
  readonly #home: StreamHome;
  /** Neither side says anything more. */
  closed = false;
  /** The peer has said all. */
  remoteEnded = false;
  #localEnded = false;
  #sendWindow: number;
  readonly #receiveWindowSize: number;
  #receiveWindow: number;
  /** Used, and the peer has not been told. */
  #usedBytes = 0;
  #outgoing: Queued[] = [];
  /** Sent when `#outgoing` has been; `"end"` without trailers. */
  #outgoingEnd: readonly string[] | "end" | undefined;
  #paused = false;
  /** What came while the handler was paused. */
  #incoming: Buffer[] = [];
  #incomingEnd: FieldBlock | "end" | undefined;

  constructor(id: number, home: StreamHome, windows: { readonly send: number; readonly receive: number }) {
    this.id = id;
    this.#home = home;
    this.#sendWindow = windows.send;
    this.#receiveWindow = this.#receiveWindowSize = windows.receive;
  }

  // ---- sending

  get localEnded(): boolean {
    return this.#localEnded || this.#outgoingEnd !== undefined;
  }

  fields(fields: readonly string[], end: boolean): void {
    if (this.closed || this.localEnded) return;
    this.#home.writer.headers(this.id, fields, end);
    if (end) this.#endLocal();
  }

  /** False asks for a pause until `onDrain`. The bytes may be used otherwise after the call. */
  data(bytes: Buffer): boolean {
    if (this.closed || this.localEnded) return true;
    const home = this.#home;
    let rest = bytes;
    if (this.#outgoing.length === 0) {
      const now = Math.min(bytes.length, this.#sendWindow, home.sendWindow);
      if (now === bytes.length) rest = nothing;
      else rest = bytes.subarray(Math.max(0, now));
      if (now > 0) this.#send(now === bytes.length ? bytes : bytes.subarray(0, now));
    }
    if (rest.length > 0) {
      const release = lend(rest);
      this.#outgoing.push({ bytes: release ? rest : keep(rest), release });
      home.blocked.add(this);
    }
    if (rest.length === 0 && !home.full) return true;
    home.thirsty.add(this);
    return false;
  }

  end(trailers: readonly string[] | undefined): void {
    if (this.closed || this.localEnded) return;
    if (this.#outgoing.length > 0) this.#outgoingEnd = trailers ?? "end";
    else this.#sendEnd(trailers);
  }

  /** The peer lets so many bytes more through; false when that is more than a window may be. */
  widen(bytes: number): boolean {
    this.#sendWindow += bytes;
    if (this.#sendWindow > most31) return false;
    if (bytes > 0) this.pump();
    return true;
  }

  /** Sends what waits, as far as the windows go. */
  pump(): void {
    const home = this.#home;
    while (this.#outgoing.length > 0) {
      const { bytes, release } = this.#outgoing[0]!;
      const now = Math.min(bytes.length, this.#sendWindow, home.sendWindow);
      if (now <= 0) return;
      this.#send(now === bytes.length ? bytes : bytes.subarray(0, now));
      if (now < bytes.length) {
        // The rest holds on to the whole until it has gone.
        this.#outgoing[0] = { bytes: bytes.subarray(now), release };
        return;
      }
      release?.();
      this.#outgoing.shift();
    }
    home.blocked.delete(this);
    const end = this.#outgoingEnd;
    this.#outgoingEnd = undefined;
    if (end !== undefined) this.#sendEnd(end === "end" ? undefined : end);
    else if (!home.full) this.drained();
  }

  /** There is room again. */
  drained(): void {
    if (this.#outgoing.length > 0 || !this.#home.thirsty.delete(this)) return;
    this.handler?.onDrain();
  }

  #send(bytes: Buffer): void {
    this.#sendWindow -= bytes.length;
    this.#home.sendWindow -= bytes.length;
    this.#home.writer.data(this.id, bytes);
  }

  #sendEnd(trailers: readonly string[] | undefined): void {
    if (trailers) this.#home.writer.headers(this.id, trailers, true);
    else this.#home.writer.endData(this.id);
    this.#endLocal();
  }

  #endLocal(): void {
    this.#localEnded = true;
    if (this.remoteEnded) this.#close(false);
  }

  // ---- receiving: called by the connection

  /** DATA of this length begins; false when it is more than the window allows. */
  take(length: number): boolean {
    this.#receiveWindow -= length;
    return this.#receiveWindow >= 0;
  }

  receive(bytes: Buffer): void {
    if (this.#paused || this.#incoming.length > 0) {
      this.#incoming.push(keep(bytes));
      return;
    }
    this.handler?.onData(bytes);
    this.used(bytes.length);
  }

  /** So many bytes that were received need no more room. */
  used(bytes: number): void {
    this.#home.used(bytes);
    if (this.closed || this.remoteEnded) return;
    this.#usedBytes += bytes;
    if (this.#usedBytes * 2 < this.#receiveWindowSize) return;
    this.#receiveWindow += this.#usedBytes;
    this.#home.writer.windowUpdate(this.id, this.#usedBytes);
    this.#usedBytes = 0;
  }

  receiveFields(block: FieldBlock, end: boolean): void {
    if (end) this.remoteEnded = true;
    if (end && (this.#paused || this.#incoming.length > 0)) this.#incomingEnd = block;
    else this.handler?.onFields(block, end);
    if (end) this.#endRemote();
  }

  receiveEnd(): void {
    this.remoteEnded = true;
    if (this.#paused || this.#incoming.length > 0) this.#incomingEnd = "end";
    else this.handler?.onEnd();
    this.#endRemote();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    while (!this.#paused && this.#incoming.length > 0) {
      const bytes = this.#incoming.shift()!;
      this.handler?.onData(bytes);
      this.used(bytes.length);
    }
    if (this.#paused || this.#incomingEnd === undefined) return;
    const end = this.#incomingEnd;
    this.#incomingEnd = undefined;
    if (end === "end") this.handler?.onEnd();
    else this.handler?.onFields(end, true);
  }

  #endRemote(): void {
    if (this.#localEnded) this.#close(false);
  }

  // ---- ending

  /** Ends both sides at once. The handler hears nothing more. */
  reset(code: number): void {
    this.handler = undefined;
    if (this.closed) {
      this.#drop();
      return;
    }
    this.#home.writer.reset(this.id, code);
    this.#close(code !== codes.noError, true);
    this.#drop();
  }

  /** RST_STREAM came. */
  resetByPeer(code: number): void {
    // What is whole stays whole: the peer only wants no more of ours.
    const whole = this.remoteEnded && code === codes.noError;
    this.#close(!this.#localEnded);
    if (whole) {
      this.#dropOutgoing();
      return;
    }
    this.#end({ kind: "reset", code });
  }

  /** The stream ends with its connection, or because the peer never began on it. */
  lose(end: StreamEnd): void {
    this.#close(false);
    this.#end(end);
  }

  #end(end: StreamEnd): void {
    const { handler } = this;
    this.handler = undefined;
    this.#drop();
    handler?.onClosed(end);
  }

  #close(cut: boolean, byUs = false): void {
    if (this.closed) return;
    this.closed = true;
    this.#home.blocked.delete(this);
    this.#home.thirsty.delete(this);
    this.#home.closed(this, { cut, byUs });
  }

  #drop(): void {
    this.#dropOutgoing();
    this.#incomingEnd = undefined;
    const unused = this.#incoming;
    this.#incoming = [];
    for (const bytes of unused) this.#home.used(bytes.length);
  }

  #dropOutgoing(): void {
    this.#outgoingEnd = undefined;
    for (const { release } of this.#outgoing) release?.();
    this.#outgoing = [];
  }
}

const nothing = Buffer.alloc(0);
