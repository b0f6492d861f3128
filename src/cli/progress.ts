import { setMaxListeners } from "node:events";
import { basename, dirname, relative, sep } from "node:path";
import { systemClock } from "../base/index.ts";

/** Long work, shown as it goes. */
export interface ProgressLine {
  /** A line that stays. */
  readonly write: (line: string) => void;
  /**
   * What is waited for now. On a terminal one line that is replaced; elsewhere a line when it is another than before,
   * and no more often than a person can read.
   */
  readonly waiting: (line: string) => void;
}

/** Least time between two lines about waiting, where lines cannot be replaced. */
const betweenMs = 2_000;

export function progressLine(
  out: Pick<NodeJS.WriteStream, "isTTY" | "columns" | "write"> = process.stdout,
  now: () => number = () => systemClock.monotonic(),
): ProgressLine {
  if (!out.isTTY) {
    let told = "";
    let toldAt = Number.NEGATIVE_INFINITY;
    return {
      write: (line) => void out.write(`${line}\n`),
      waiting(line) {
        if (line === "" || line === told || now() - toldAt < betweenMs) return;
        told = line;
        toldAt = now();
        out.write(`${line}\n`);
      },
    };
  }
  let shown = false;
  const clear = () => {
    if (shown) out.write("\r\u001b[2K");
    shown = false;
  };
  return {
    write(line) {
      clear();
      out.write(`${line}\n`);
    },
    waiting(line) {
      clear();
      if (line === "") return;
      const width = out.columns || 80;
      out.write(line.length < width ? line : `${line.slice(0, width - 2)}…`);
      shown = true;
    },
  };
}

/** How a person calls this program again from where they are, whether it is installed, linked, or run from its folder. */
export function ownCommand(script: string = process.argv[1] ?? "", folder: string = process.cwd()): string {
  if (basename(script) !== "isthmus") {
    const short = relative(folder, script);
    return `node ${short.startsWith("..") ? script : short}`;
  }
  return dirname(script).endsWith(`node_modules${sep}.bin`) ? "npx isthmus" : "isthmus";
}

/**
 * Runs `work` with a signal that aborts at the first Ctrl-C (or SIGTERM, or when the terminal goes away). A second
 * Ctrl-C while cleaning up does not cut the cleaning short.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  // Every request that waits listens for it; the runtime would warn of the eleventh.
  setMaxListeners(0, controller.signal);
  const stop = () => controller.abort(new Error("interrupted"));
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
