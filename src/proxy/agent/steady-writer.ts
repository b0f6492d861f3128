import type { Clock, Timer } from "../../base/index.ts";

/** How soon after a change it is written: so many changes in between are one write. */
const soonMs = 200;
/** Between the beginnings of two writes: a second at least, ten times as long as the last one took, ten seconds at most. */
const restMs = { least: 1_000, factor: 10, most: 10_000 };
/** After one that failed. */
const againMs = 30_000;

/** Writes the newest state a while after it changed, one write at a time, and never more often than now and then. */
export class SteadyWriter {
  readonly #clock: Clock;
  #write: (() => Promise<boolean>) | undefined;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #notBefore = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `write` takes the place of one that waits still. It says whether it went well; one that did not is tried again. */
  want(write: () => Promise<boolean>): void {
    this.#write = write;
    this.#plan();
  }

  /** Writes what waits, once, and nothing after that. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
    const last = this.#write;
    this.#write = undefined;
    await last?.();
  }

  #plan(): void {
    if (this.#closed || this.#timer || this.#running || !this.#write) return;
    const waitMs = Math.max(soonMs, this.#notBefore - this.#clock.monotonic());
    this.#timer = this.#clock.after(
      waitMs,
      () => {
        this.#timer = undefined;
        this.#running = this.#run().finally(() => {
          this.#running = undefined;
          this.#plan();
        });
      },
      { background: true },
    );
  }

  async #run(): Promise<void> {
    const write = this.#write!;
    this.#write = undefined;
    const began = this.#clock.monotonic();
    const good = await write();
    const now = this.#clock.monotonic();
    if (!good) this.#write ??= write;
    this.#notBefore = good ? began + rest(now - began) : now + againMs;
  }
}

function rest(tookMs: number): number {
  return Math.max(tookMs, Math.min(restMs.most, Math.max(restMs.least, restMs.factor * tookMs)));
}
