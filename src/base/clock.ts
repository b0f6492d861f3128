/** A pending call. Cancelling one that has run, or twice, does nothing. */
export interface Timer {
  cancel(): void;
}

/** Time, handed in: what needs it takes a `Clock`, so that a test can hold it. All times are milliseconds. */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump when the machine's clock is set. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back. For durations. */
  monotonic(): number;
  /** Calls `run` once, `ms` from now. Does not keep the process alive when `background` is set. */
  after(ms: number, run: () => void, options?: { readonly background?: boolean }): Timer;
}

/** Longest delay that the runtime's timers can hold; a longer wait would fire at once. */
const longestDelay = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run, options) {
    const handle = setTimeout(run, Math.min(Math.max(0, ms), longestDelay));
    if (options?.background) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.after(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
