import { setMaxListeners } from "node:events";
import { type Clock, sleep } from "./clock.ts";
import { Failure } from "./failure.ts";

/**
 * A lifetime: what was started in it is stopped with it, last first. `signal` aborts when closing begins, so that what
 * waits can give up; a `drain` function may use the time it is given before what is left is cut off.
 */
export class Scope {
  readonly #controller = new AbortController();
  readonly #closers: Array<(deadline: AbortSignal) => void | Promise<void>> = [];
  #closing: Promise<void> | undefined;

  constructor() {
    // However many wait for the end of one lifetime, that is no leak; the runtime would warn of the eleventh.
    setMaxListeners(0, this.#controller.signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Calls `stop` when the scope closes; at once when it is closed already. The signal it gets aborts when the time for
   * draining is over.
   */
  defer(stop: (deadline: AbortSignal) => void | Promise<void>): void {
    if (this.#closing !== undefined) {
      void Promise.resolve(stop(AbortSignal.abort())).catch(() => {});
      return;
    }
    this.#closers.push(stop);
  }

  /** A scope that closes with this one, and may close before it. */
  child(): Scope {
    const child = new Scope();
    const stop = (deadline: AbortSignal) => child.#close(deadline);
    this.defer(stop);
    child.defer(() => {
      const index = this.#closers.indexOf(stop);
      if (index >= 0) this.#closers.splice(index, 1);
    });
    return child;
  }

  /** Stops everything, last first, waiting for each. One that fails does not keep the others from stopping. */
  close(
    options:
      | { readonly drainMs?: number; readonly clock?: Clock }
      /** Aborts when the time for draining is over. */
      | { readonly deadline: AbortSignal } = {},
  ): Promise<void> {
    if ("deadline" in options) return this.#close(options.deadline);
    const { drainMs = 0, clock } = options;
    if (drainMs <= 0 || !clock) return this.#close(AbortSignal.abort());
    const deadline = new AbortController();
    const stopWaiting = new AbortController();
    sleep(clock, drainMs, stopWaiting.signal).then(
      () => deadline.abort(new Failure("scope/drain-timeout", `still busy after ${drainMs} ms of draining`)),
      () => {},
    );
    return this.#close(deadline.signal).finally(() => stopWaiting.abort());
  }

  #close(deadline: AbortSignal): Promise<void> {
    this.#closing ??= (async () => {
      this.#controller.abort(new Failure("scope/closed", "stopped"));
      const failures: unknown[] = [];
      for (let stop = this.#closers.pop(); stop; stop = this.#closers.pop()) {
        try {
          await stop(deadline);
        } catch (failure) {
          failures.push(failure);
        }
      }
      if (failures.length === 1) throw failures[0];
      if (failures.length > 1) throw new AggregateError(failures, `${failures.length} parts did not stop cleanly`);
    })();
    return this.#closing;
  }
}
