import type { Clock, Timer } from "../../../src/base/index.ts";

/** A moment by which something must have ended; it may come nearer, never go further. */
export class Deadline {
  readonly #clock: Clock;
  readonly #controller = new AbortController();
  #timer: Timer | undefined;
  #at = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.shorten(ms);
  }

  /** Aborts when the time has come. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Not later than `ms` from now. */
  shorten(ms: number): void {
    const at = this.#clock.monotonic() + ms;
    if (at >= this.#at) return;
    this.#at = at;
    this.#timer?.cancel();
    this.#timer = this.#clock.after(ms, () => this.#controller.abort());
  }

  /** Resolves with `what` or when the time has come, whichever is first. */
  async within(what: Promise<unknown>): Promise<void> {
    if (this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.signal.addEventListener("abort", () => resolve(), { once: true });
      what.then(
        () => resolve(),
        () => resolve(),
      );
    });
  }

  cancel(): void {
    this.#timer?.cancel();
  }
}
