import type { Clock, Timer } from "../../base/index.ts";

/** How long one request waits, and for what. Where nothing is limited it costs no timer. */
export class Patience {
  readonly #clock: Clock;
  /** For the whole answer; for something to move; before the request goes on at all. */
  #whole: Timer | undefined;
  #moving: Timer | undefined;
  #delay: Timer | undefined;
  #movedMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `act` after so many milliseconds, unless the request is over by then. */
  delay(ms: number, act: () => void): void {
    this.#delay = this.#clock.after(ms, act);
  }

  /** From now on the whole answer may take so many milliseconds; 0 for as long as it likes. */
  forWhole(ms: number, onLate: () => void): void {
    if (ms > 0) this.#whole = this.#clock.after(ms, onLate);
  }

  /** What comes from now on has no end that could be late. */
  endless(): void {
    this.#whole?.cancel();
  }

  /** From now on something must move within so many milliseconds, again and again; 0 or undefined for never. */
  forMoving(ms: number | undefined, onStill: () => void): void {
    if (!ms) return;
    this.#movedMs = this.#clock.monotonic();
    // One timer for a whole body: it looks when it ends how long ago the last piece came.
    const watch = (restMs: number) => {
      this.#moving = this.#clock.after(restMs, () => {
        const leftMs = this.#movedMs + ms - this.#clock.monotonic();
        if (leftMs > 0) watch(leftMs);
        else onStill();
      });
    };
    watch(ms);
  }

  moved(): void {
    if (this.#moving) this.#movedMs = this.#clock.monotonic();
  }

  end(): void {
    this.#whole?.cancel();
    this.#moving?.cancel();
    this.#delay?.cancel();
  }
}
