/** Long work, shown as it goes. Where output is no terminal there is only `write`. */
export interface ProgressLine {
  /** A line that stays. */
  readonly write: (line: string) => void;
  /** A line that replaces the one before it; absent where output is no terminal. */
  readonly update?: (line: string) => void;
}

export function progressLine(out: NodeJS.WriteStream = process.stdout): ProgressLine {
  if (!out.isTTY) return { write: (line) => void out.write(`${line}\n`) };
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
    update(line) {
      clear();
      const width = out.columns || 80;
      out.write(line.length < width ? line : `${line.slice(0, width - 2)}…`);
      shown = true;
    },
  };
}

/**
 * Runs `work` with a signal that aborts at the first Ctrl-C (or SIGTERM, or when the terminal goes away). A second
 * Ctrl-C while cleaning up does not cut the cleaning short.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () => controller.abort(new Error("interrupted"));
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
