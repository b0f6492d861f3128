import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ReadBuffers } from "./read-buffers.ts";

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

/**
 * All bytes that wait in a socket, in one piece; null when none do. Without a size, a runtime from Node 26 on gives the
 * first piece alone.
 */
export function readWaiting(socket: Duplex): Buffer | null {
  return socket.read(socket.readableLength) as Buffer | null;
}

/**
 * Hands all bytes of a socket to `sink` from now on, those first that wait in it. They are the sink's for the length of
 * the call only: see `keep` and `lend`. The socket's `pause`, `resume`, `end` and `close` are as ever; it must have no
 * other reader. False where the runtime chooses the buffers.
 */
export function takeReads(socket: Duplex, sink: (bytes: Buffer) => void): boolean {
  const buffers = new ReadBuffers(socket);
  const waiting = socket.readableLength > 0 ? readWaiting(socket) : null;
  const switched = switchReads(socket, {
    buffer: buffers.first,
    next: () => buffers.next(),
    callback: (count, filled) => {
      buffers.filled(count);
      sink(count === filled.length ? filled : filled.subarray(0, count));
      // A pause has stopped the reading itself.
      return true;
    },
  });
  if (switched) {
    socket.once("close", () => buffers.done());
    socket.resume();
  } else socket.on("data", sink);
  // Last, because the sink may pause or destroy the socket.
  if (waiting) sink(waiting);
  return switched;
}

/** Spares an accepted socket the runtime's buffers from its first read on. All else about it is as ever. */
export function readShared(socket: Socket): void {
  const { first } = new ReadBuffers(socket);
  const callback = (count: number, filled: Buffer) => socket.push(Buffer.from(filled.subarray(0, count)));
  switchReads(socket, { buffer: first, next: undefined, callback });
}

function switchReads(
  socket: Duplex,
  to: {
    readonly buffer: Buffer;
    readonly next: (() => Buffer | undefined) | undefined;
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
