import type { Clock, Timer } from "../base/index.ts";

/** How long to wait for quiet before acting on news, and how long at most. Milliseconds. */
export interface DebounceOptions {
  readonly quietMs: number;
  readonly maxMs: number;
  readonly clock: Clock;
}

export interface Debounced {
  /** There is news. */
  poke(): void;
  /** Acts on what is pending now, without waiting. */
  flush(): void;
  cancel(): void;
}

/**
 * Runs `run` once news has been quiet for `quietMs`, or `maxMs` after the first of it: a burst is one run, and a steady
 * drip cannot put it off for ever.
 */
export function debounce(run: () => void, { quietMs, maxMs, clock }: DebounceOptions): Debounced {
  let pending: { readonly timer: Timer; readonly deadline: number } | undefined;

  const fire = () => {
    pending?.timer.cancel();
    pending = undefined;
    run();
  };

  return {
    poke() {
      const now = clock.monotonic();
      const deadline = pending?.deadline ?? now + maxMs;
      pending?.timer.cancel();
      pending = { deadline, timer: clock.after(Math.min(quietMs, Math.max(0, deadline - now)), fire) };
    },
    flush() {
      if (pending) fire();
    },
    cancel() {
      pending?.timer.cancel();
      pending = undefined;
    },
  };
}
