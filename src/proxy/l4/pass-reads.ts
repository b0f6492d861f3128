import type { Duplex } from "node:stream";
import { keep, sharedBufferFor, takeReadsInto } from "./reads.ts";

/** What a socket that brings much is read into at a time, in bytes. */
const bulkBytes = 128 * 1024;
/** Reads below this, so many in a row, and it no longer brings much. */
const quiet = { bytes: 16 * 1024, reads: 8 } as const;
/** Bulk buffers that wait for their next use. */
const free: Buffer[] = [];
const mostFree = 32;

/**
 * Writes all bytes of one socket to another, and tells how many they were. Few bytes are copied out of the buffer that
 * all share; much goes out from where it was read, while the next read gets another buffer.
 */
export function passReads(from: Duplex, to: Duplex, onPassed: (bytes: number) => void): void {
  const usual = sharedBufferFor(from);
  let reading = usual;
  let small = 0;
  const sink = (bytes: Buffer) => {
    if (bytes.buffer === usual.buffer) {
      to.write(keep(bytes));
      if (bytes.length === usual.length) reading = takeFree();
    } else if (bytes.buffer === reading.buffer) {
      const lent = reading;
      to.write(bytes, () => giveBack(lent));
      small = bytes.length < quiet.bytes ? small + 1 : 0;
      reading = small < quiet.reads ? takeFree() : usual;
    } else {
      // It waited in the socket, or the runtime has buffers of its own.
      to.write(bytes);
    }
    onPassed(bytes.length);
  };
  takeReadsInto(from, { sink, buffer: usual, next: () => reading });
  from.once("close", () => {
    if (reading !== usual) giveBack(reading);
    reading = usual;
  });
}

function takeFree(): Buffer {
  return free.pop() ?? Buffer.allocUnsafeSlow(bulkBytes);
}

function giveBack(buffer: Buffer): void {
  if (free.length < mostFree) free.push(buffer);
}
