import type { Clock, Timer } from "../../base/index.ts";

/** Something with deadlines that may be looked at once a second. */
export interface Swept {
  onSweep(now: number): void;
}

const everyMs = 1000;

/**
 * One timer for all deadlines that may be a second late (slow heads, idle connections): a timer of its own for each
 * request would cost more than the rest of its handling. It runs only while somebody is registered.
 */
export class Sweeper {
  readonly #clock: Clock;
  readonly #swept = new Set<Swept>();
  #timer: Timer | undefined;
  readonly #run = () => {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const one of this.#swept) one.onSweep(now);
    this.#arm();
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(one: Swept): void {
    this.#swept.add(one);
    this.#arm();
  }

  delete(one: Swept): void {
    this.#swept.delete(one);
    if (this.#swept.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    if (this.#swept.size > 0) this.#timer ??= this.#clock.after(everyMs, this.#run, { background: true });
  }
}
