import { closeSync, existsSync, fstatSync, openSync, readSync, watch } from "node:fs";
import { type Clock, sleep } from "../base/index.ts";

/** The last lines of a file that fit into a few kilobytes; empty when there is none. */
export function lastLines(file: string, count: number): string {
  try {
    const descriptor = openSync(file, "r");
    try {
      const buffer = Buffer.alloc(8192);
      const from = Math.max(0, fstatSync(descriptor).size - buffer.length);
      const text = buffer.toString("utf8", 0, readSync(descriptor, buffer, 0, buffer.length, from));
      return text.trimEnd().split("\n").slice(-count).join("\n");
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return "";
  }
}

/** The lines of a file that grows; those there are, or the last `tail`, and with `follow` new ones until the signal aborts. */
export async function followFile(options: {
  readonly file: string;
  readonly follow: boolean;
  readonly tail?: number;
  readonly onLine: (line: string) => void;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}): Promise<void> {
  const { file, follow, tail, onLine, clock, signal } = options;
  if (!existsSync(file) && !follow) return;
  while (!existsSync(file)) {
    if (signal?.aborted) return;
    await sleep(clock, 200, signal).catch(() => {});
  }
  const descriptor = openSync(file, "r");
  const buffer = Buffer.alloc(64 * 1024);
  let rest = Buffer.alloc(0);
  const readNew = (take: (line: string) => void) => {
    for (let read = readSync(descriptor, buffer); read > 0; read = readSync(descriptor, buffer)) {
      // Lines are cut as bytes, so that a character that is not whole yet is not broken.
      rest = Buffer.concat([rest, buffer.subarray(0, read)]);
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        take(rest.subarray(0, end).toString("utf8"));
        rest = rest.subarray(end + 1);
      }
    }
  };
  try {
    if (tail === undefined) readNew(onLine);
    else {
      const last: string[] = [];
      readNew((line) => {
        last.push(line);
        if (last.length > tail) last.shift();
      });
      for (const line of last) onLine(line);
    }
    if (!follow) {
      if (rest.length > 0) onLine(rest.toString("utf8"));
      return;
    }
    const watcher = watch(file, () => readNew(onLine));
    await new Promise<void>((resolve) => {
      if (signal?.aborted) return resolve();
      signal?.addEventListener("abort", () => resolve(), { once: true });
      watcher.once("error", () => resolve());
    });
    watcher.close();
  } finally {
    closeSync(descriptor);
  }
}
