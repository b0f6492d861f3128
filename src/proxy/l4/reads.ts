import { Socket } from "node:net";
import type { Duplex } from "node:stream";

/*
 * The runtime gives every read a buffer of 64 KiB of its own, shrinks it to what came, and leaves it to the garbage
 * collector: for small messages that costs more than all else. Sockets that are made with `onread` read into a buffer
 * that stays. Accepted sockets and TLS sockets cannot be made so; they are switched here in the way in which the runtime
 * itself does it. Where a later runtime knows that way no longer, bytes come as `data` events, at the old price.
 */

/** What `onread` sets up, under the names of `node:net`. */
interface Hooks {
  readonly buffer: symbol;
  readonly callback: symbol;
  readonly next: symbol;
}

interface Readable {
  [hook: symbol]: unknown;
  readonly _handle?: { readonly useUserBuffer?: (buffer: Uint8Array) => unknown } | null;
}

/** For plain and for TLS sockets each its own: reading one may write to, and so read from, one of the other kind. */
const shared = { plain: Buffer.allocUnsafeSlow(64 * 1024), tls: Buffer.allocUnsafeSlow(64 * 1024) };

/**
 * All bytes that wait in a socket, in one piece; null when none do. Without a size, a runtime from Node 26 on gives the
 * first piece alone.
 */
export function readWaiting(socket: Duplex): Buffer | null {
  return socket.read(socket.readableLength) as Buffer | null;
}

/**
 * Hands all bytes of a socket to `sink` from now on, those first that wait in it. They are the sink's for the length of
 * the call only: see `keep`. The socket's `pause`, `resume`, `end` and `close` are as ever; it must have no other reader.
 */
export function takeReads(socket: Duplex, sink: (bytes: Buffer) => void): void {
  takeReadsInto(socket, { sink, buffer: sharedBufferFor(socket), next: undefined });
}

/**
 * The same with a buffer of the caller's choice; `next` is asked after each read for the one of the next read. False
 * where the runtime chooses the buffers.
 */
export function takeReadsInto(
  socket: Duplex,
  options: {
    readonly sink: (bytes: Buffer) => void;
    readonly buffer: Buffer;
    readonly next: (() => Buffer) | undefined;
  },
): boolean {
  const { sink, buffer, next } = options;
  const waiting = socket.readableLength > 0 ? readWaiting(socket) : null;
  const switched = switchReads(socket, {
    buffer,
    next,
    callback: (count, filled) => {
      sink(count === filled.length ? filled : filled.subarray(0, count));
      // A pause has stopped the reading itself.
      return true;
    },
  });
  if (switched) socket.resume();
  else socket.on("data", sink);
  // Last, because the sink may pause or destroy the socket.
  if (waiting) sink(waiting);
  return switched;
}

/** Spares an accepted socket the runtime's buffers from its first read on. All else about it is as ever. */
export function readShared(socket: Socket): void {
  const callback = (count: number, filled: Buffer) => socket.push(Buffer.from(filled.subarray(0, count)));
  switchReads(socket, { buffer: shared.plain, next: undefined, callback });
}

function switchReads(
  socket: Duplex,
  to: {
    readonly buffer: Buffer;
    readonly next: (() => Buffer) | undefined;
    /** False stops reading. */
    readonly callback: (count: number, filled: Buffer) => boolean;
  },
): boolean {
  const hooks = socket instanceof Socket && !socket.destroyed ? hooksOf(socket) : undefined;
  if (!hooks) return false;
  const readable = socket as unknown as Readable;
  if (readable[hooks.buffer] !== to.buffer) readable._handle!.useUserBuffer!(to.buffer);
  readable[hooks.buffer] = to.buffer;
  readable[hooks.callback] = to.callback;
  readable[hooks.next] = to.next ?? null;
  return true;
}

/** What all sockets of its kind are read into, one after the other. */
export function sharedBufferFor(socket: Duplex): Buffer {
  return "encrypted" in socket ? shared.tls : shared.plain;
}

/** Bytes that outlive the call in which they came: the same where they do anyhow, else a copy. */
export function keep(bytes: Buffer): Buffer {
  return bytes.buffer === shared.plain.buffer || bytes.buffer === shared.tls.buffer ? Buffer.from(bytes) : bytes;
}

let known: Hooks | null | undefined;

function hooksOf(socket: Socket): Hooks | undefined {
  if (known === undefined) {
    const named = new Map(Object.getOwnPropertySymbols(socket).map((symbol) => [symbol.description, symbol]));
    const [buffer, callback, next] = ["kBuffer", "kBufferCb", "kBufferGen"].map((name) => named.get(name));
    known = buffer && callback && next ? { buffer, callback, next } : null;
  }
  const { _handle: handle } = socket as unknown as Readable;
  return known && typeof handle?.useUserBuffer === "function" ? known : undefined;
}
