/** One who may need a push. */
export interface Pushable {
  /**
   * Says all there is to say now, and resolves when the transport has taken it. Must not throw: a stream that broke is
   * its own affair.
   */
  flush(): Promise<void>;
}

/**
 * Who needs a push: each at most once in the queue and once at work, whoever waits longest first, so many at once. News
 * for one that is at work or waiting merge: when its turn comes it is told what holds then.
 */
export class PushQueue {
  readonly #maxAtOnce: number;
  readonly #waiting = new Set<Pushable>();
  readonly #working = new Set<Pushable>();
  #scheduled = false;

  constructor(options: { readonly maxAtOnce: number }) {
    this.#maxAtOnce = options.maxAtOnce;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Whether it waits for its turn or is being told something. */
  has(pushable: Pushable): boolean {
    return this.#waiting.has(pushable) || this.#working.has(pushable);
  }

  need(pushable: Pushable): void {
    this.#waiting.add(pushable);
    this.#schedule();
  }

  drop(pushable: Pushable): void {
    this.#waiting.delete(pushable);
  }

  /** Between two pushes the event loop gets its turn, so that a thousand of them do not hold up everything else. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#work();
    });
  }

  #work(): void {
    if (this.#working.size >= this.#maxAtOnce) return;
    for (const pushable of this.#waiting) {
      if (this.#working.has(pushable)) continue;
      this.#waiting.delete(pushable);
      this.#working.add(pushable);
      const done = () => {
        this.#working.delete(pushable);
        if (this.#waiting.size > 0) this.#schedule();
      };
      pushable.flush().then(done, done);
      if (this.#waiting.size > 0 && this.#working.size < this.#maxAtOnce) this.#schedule();
      return;
    }
  }
}
