import { closeSync, existsSync, fstatSync, openSync, readSync, watch } from "node:fs";

/** Sends a log file, from its last lines on where so many are asked for, and what comes to it until `until` resolves. */
export async function sendLog(options: {
  readonly file: string;
  readonly tailLines?: number | undefined;
  readonly limitBytes?: number | undefined;
  readonly until?: Promise<unknown> | undefined;
  readonly write: (bytes: Buffer) => void;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { file, tailLines, until, write, signal } = options;
  if (!existsSync(file)) return;
  const descriptor = openSync(file, "r");
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  let at = tailLines === undefined ? 0 : tailStart(descriptor, tailLines);
  const buffer = Buffer.alloc(64 * 1024);
  const send = () => {
    for (;;) {
      const length = readSync(descriptor, buffer, 0, Math.min(buffer.length, left), at);
      if (length === 0) return;
      at += length;
      left -= length;
      write(Buffer.from(buffer.subarray(0, length)));
    }
  };
  try {
    send();
    if (!until) return;
    const watcher = watch(file, send);
    await new Promise<void>((resolve) => {
      if (signal.aborted) return resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
      watcher.once("error", () => resolve());
      until.then(
        () => resolve(),
        () => resolve(),
      );
    });
    watcher.close();
    if (!signal.aborted) send();
  } finally {
    closeSync(descriptor);
  }
}

/** Where the last lines of a file begin. */
function tailStart(descriptor: number, lines: number): number {
  const { size } = fstatSync(descriptor);
  const block = Buffer.alloc(64 * 1024);
  let wanted = lines;
  let end = size;
  while (end > 0) {
    const from = Math.max(0, end - block.length);
    const length = readSync(descriptor, block, 0, end - from, from);
    for (let index = length - 1; index >= 0; index--) {
      // A line end at the very end of the file ends the last line.
      if (block[index] !== 10 || from + index === size - 1) continue;
      wanted--;
      if (wanted < 0 || lines === 0) break;
      if (wanted === 0) return from + index + 1;
    }
    end = from;
  }
  return lines === 0 ? size : 0;
}
