/** A value that changes, and who watches it. News is a new value: what was handed out is never altered. */
export class Cell<T> {
  #value: T;
  readonly #watchers = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  /** Tells every watcher, unless the value is the very same one. */
  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const notify of [...this.#watchers]) {
      if (this.#watchers.has(notify)) notify(value);
    }
  }

  /** Calls `notify` at each later change. Returns how to stop. */
  subscribe(notify: (value: T) => void): () => void {
    // A function of our own, so that one function subscribed twice is two subscriptions.
    const watcher = (value: T) => notify(value);
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }
}

/** Resolves with the first value that satisfies `wanted`: the present one or a later one. */
export function until<T>(cell: Cell<T>, wanted: (value: T) => boolean, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    if (wanted(cell.value)) return resolve(cell.value);
    const onAbort = () => {
      stop();
      reject(signal?.reason);
    };
    const stop = cell.subscribe((value) => {
      if (!wanted(value)) return;
      stop();
      signal?.removeEventListener("abort", onAbort);
      resolve(value);
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
