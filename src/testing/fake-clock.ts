import type { Clock, Timer } from "../base/index.ts";

/** Time that moves when told. */
export class FakeClock implements Clock {
  #now: number;
  readonly #start: number;
  #timers: Array<{ at: number; order: number; run: () => void }> = [];
  #order = 0;

  constructor(startMs = 0) {
    this.#now = startMs;
    this.#start = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#start;
  }

  after(ms: number, run: () => void): Timer {
    const timer = { at: this.#now + Math.max(0, ms), order: this.#order++, run };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Timers that have not run yet. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Moves time on and runs what became due, in order, with `now()` at each one's own instant. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = end;
  }

  /** The same, letting promises settle after each due timer. */
  async advanceAsync(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.map((timer) => timer.at).sort((a, b) => a - b)[0];
      if (next === undefined || next > end) break;
      this.advance(Math.max(0, next - this.#now));
      for (let i = 0; i < 10; i++) await Promise.resolve();
    }
    this.advance(end - this.#now);
    for (let i = 0; i < 10; i++) await Promise.resolve();
  }
}
