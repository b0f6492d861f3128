import { setImmediate } from "node:timers/promises";
import { Failure } from "../base/index.ts";

/**
 * Lets one piece of work through at a time and the rest of the process in between, in order of arrival: a herd of requests
 * that each take half a millisecond must not keep everything else waiting for the sum.
 */
export class Turnstile {
  readonly #limit: number;
  #tail: Promise<void> = Promise.resolve();
  #waiting = 0;

  /** `limit` is how many may wait. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Runs `work` in its turn. Throws `ca/busy` at once when too many wait, and the signal's reason when it aborts first. */
  async run<T>(work: () => T, signal?: AbortSignal): Promise<T> {
    if (this.#waiting >= this.#limit)
      throw new Failure("ca/busy", `${this.#waiting} certificate requests wait already`, { hint: "come again" });
    this.#waiting++;
    const before = this.#tail;
    let done = () => {};
    this.#tail = new Promise((resolve) => {
      done = resolve;
    });
    try {
      await before;
      // Nobody needs the certificate of a caller that is gone.
      signal?.throwIfAborted();
      await setImmediate();
      return work();
    } finally {
      this.#waiting--;
      done();
    }
  }
}

/** So many at once and then so many a second, for each key; keys that were idle long enough to be full are forgotten. */
export class RateLimit<K> {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #buckets = new Map<K, { tokens: number; at: number }>();
  /** Keys remembered; beyond it the one unused for longest goes, and starts anew with a whole burst. */
  readonly #keys: number;

  constructor(options: { readonly burst: number; readonly perSecond: number; readonly keys: number }) {
    this.#burst = options.burst;
    this.#perSecond = options.perSecond;
    this.#keys = options.keys;
  }

  /** Takes one; false when there is none left. `nowMs` never goes back. */
  take(key: K, nowMs: number): boolean {
    const bucket = this.#buckets.get(key) ?? { tokens: this.#burst, at: nowMs };
    const tokens = Math.min(this.#burst, bucket.tokens + ((nowMs - bucket.at) / 1000) * this.#perSecond);
    const allowed = tokens >= 1;
    // Set anew, so that the map is in order of last use.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: allowed ? tokens - 1 : tokens, at: nowMs });
    if (this.#buckets.size > this.#keys) this.#buckets.delete(this.#buckets.keys().next().value as K);
    return allowed;
  }
}
