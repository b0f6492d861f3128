/**
 * What tells many at once that it is time to stop: the part of an `AbortSignal` that is used for that. The runtime's own
 * compares each new listener with all that are there, which for thousands of connections is most of their work.
 */
export interface Stop {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { readonly once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export class Stopper implements Stop {
  aborted = false;
  reason: unknown;
  #listeners: Set<() => void> | undefined;

  /** Calls who listens, once; who comes later finds `aborted`. */
  abort(reason?: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    // One that another takes out meanwhile is not called.
    for (const listener of this.#listeners ?? []) listener();
    this.#listeners = undefined;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    if (this.aborted) return;
    this.#listeners ??= new Set();
    this.#listeners.add(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    this.#listeners?.delete(listener);
  }
}
