import type { Duplex } from "node:stream";

/*
 * What sockets are read into. Few bytes at a time go into one buffer that all sockets share, and whoever wants them for
 * longer copies them. A socket that brings much gets a buffer of its own for each read: the bytes can then go out from
 * where they were read, and the buffer comes back when they have. New buffers for large reads would cost the garbage
 * collector more than all else that is done with them.
 */

/** For plain and for TLS sockets each its own: reading one may write to, and so read from, one of the other kind. */
const shared = { plain: Buffer.allocUnsafeSlow(64 * 1024), tls: Buffer.allocUnsafeSlow(64 * 1024) };

/** Buffers for sockets that bring much. */
interface Pool {
  readonly free: OwnBuffer[];
  readonly mostFree: number;
  /** Of one buffer, in bytes. What is free stays for good, so all of it together is a few MiB. Of TLS one read is never more than one record. */
  readonly bytes: number;
  /** A read of the shared buffer of at least so much asks for an own one, … */
  readonly much: number;
  /** … and below this, so many in a row, the socket no longer brings much. */
  readonly little: number;
}
const pools = {
  plain: { free: [], mostFree: 24, bytes: 64 * 1024, much: 48 * 1024, little: 16 * 1024 },
  tls: { free: [], mostFree: 32, bytes: 16 * 1024, much: 16 * 1024, little: 4 * 1024 },
} as const satisfies Record<string, { free: OwnBuffer[] } & Omit<Pool, "free">>;
const quietReads = 8;

/** A buffer that one socket reads into, and that may be held for longer by those who write what is in it. */
class OwnBuffer {
  readonly bytes: Buffer;
  #holders = 0;
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
    this.bytes = Buffer.allocUnsafeSlow(pool.bytes);
    own.set(this.bytes.buffer, this);
  }

  get lent(): boolean {
    return this.#holders > 1;
  }

  hold(): void {
    this.#holders++;
  }

  readonly release = (): void => {
    if (--this.#holders === 0 && this.#pool.free.length < this.#pool.mostFree) this.#pool.free.push(this);
  };
}

const own = new WeakMap<ArrayBufferLike, OwnBuffer>();

/** Chooses, read by read, what one socket is read into. */
export class ReadBuffers {
  readonly #usual: Buffer;
  readonly #pool: Pool;
  #own: OwnBuffer | undefined;
  #last = 0;
  #quiet = 0;

  constructor(socket: Duplex) {
    const kind = "encrypted" in socket ? "tls" : "plain";
    this.#usual = shared[kind];
    this.#pool = pools[kind];
  }

  get first(): Buffer {
    return this.#usual;
  }

  /** So many bytes were read. */
  filled(count: number): void {
    this.#last = count;
    this.#quiet = count < this.#pool.little ? this.#quiet + 1 : 0;
  }

  /** For the next read; undefined for the same as before. What that one holds is no longer used, unless it is lent. */
  next(): Buffer | undefined {
    const last = this.#own;
    const much = last ? this.#quiet < quietReads : this.#last >= this.#pool.much;
    if (last && (last.lent || !much)) {
      this.#own = undefined;
      last.release();
    }
    if (much && !this.#own) {
      this.#own = this.#pool.free.pop() ?? new OwnBuffer(this.#pool);
      this.#own.hold();
    }
    return this.#own === last ? undefined : (this.#own?.bytes ?? this.#usual);
  }

  /** Nothing more is read. */
  done(): void {
    this.#own?.release();
    this.#own = undefined;
  }
}

/** Bytes that outlive the call in which they came: the same where they do anyhow, else a copy. */
export function keep(bytes: Buffer): Buffer {
  const { buffer } = bytes;
  return buffer === shared.plain.buffer || buffer === shared.tls.buffer || own.has(buffer) ? Buffer.from(bytes) : bytes;
}

/**
 * Keeps bytes where they are until the function that is returned has been called, once. Undefined when that cannot be, or
 * when so few of them would hold a whole buffer: `keep` them then.
 */
export function lend(bytes: Buffer): (() => void) | undefined {
  const found = bytes.length < 4096 ? undefined : own.get(bytes.buffer);
  if (!found || bytes.length * 4 < found.bytes.length) return undefined;
  found.hold();
  return found.release;
}

/** Writes bytes that are the caller's for the length of the call only. As a stream's `write`, false asks for a pause. */
export function writeKept(to: Duplex, bytes: Buffer): boolean {
  const release = lend(bytes);
  return release ? to.write(bytes, release) : to.write(keep(bytes));
}
