import type { Clock, Timer } from "../../base/index.ts";

/** How soon after a change it is written: so many changes in between are one write. */
const soonMs = 200;
/** Between the beginnings of two writes, and at least so many times as long as the last one took. */
const restMs = 1_000;
const restFactor = 50;
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
    this.#notBefore = good ? began + Math.max(restMs, restFactor * (now - began)) : now + againMs;
  }
}
