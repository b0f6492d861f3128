import type { Duplex } from "node:stream";
import { keep, lend } from "./read-buffers.ts";
import { takeReads } from "./reads.ts";
import { atTurnEnd } from "./turn-end.ts";

/** What is gathered of one turn before it is written, in bytes. */
const gatherBytes = 64 * 1024;

/**
 * Writes all bytes of one socket to another, and tells how many they were. What comes in several pieces in one turn of the
 * event loop goes out as one: TLS brings its records one by one.
 */
export function passReads(from: Duplex, to: Duplex, onPassed: (bytes: number) => void): void {
  const gathers = "encrypted" in from;
  let gathered = 0;
  const write = () => {
    gathered = 0;
    to.uncork();
  };
  takeReads(from, (bytes) => {
    const release = lend(bytes);
    if (gathers && release) {
      if (gathered === 0) {
        to.cork();
        atTurnEnd(() => {
          if (gathered > 0) write();
        });
      }
      gathered += bytes.length;
    }
    if (release) to.write(bytes, release);
    else to.write(keep(bytes));
    if (gathered >= gatherBytes) write();
    onPassed(bytes.length);
  });
}
