import { backoffMs, type Clock, Failure, type Logger, type Scope, sleep } from "../../base/index.ts";

export interface WriteQueue {
  /** This key's object may have to be written. Said many times before its turn, it is written once. */
  poke(key: string): void;
  /** How many wait for their turn. */
  readonly waiting: number;
}

export interface WriteQueueOptions {
  /** Looks what is to do for a key, and does it. What it throws is tried again, later and later. */
  readonly write: (key: string) => Promise<void>;
  /** Whether writing is still our right, asked before each. */
  readonly holds: () => boolean;
  /** Told of each failure, and with undefined when the key could be written. */
  readonly onOutcome: (key: string, failure: Failure | undefined) => void;
  readonly perSecond: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

const retry = { firstMs: 500, maxMs: 60_000 };
/** Before writing too fast counts: a burst after a pause is no harm. */
const burst = 50;
const atOnce = 4;

/**
 * Writes of keyed objects, each as it should be when its turn comes: so the queue is never longer than there are
 * objects, whatever happens to them meanwhile. Slower than a limit, and slower still for what fails.
 */
export function startWriteQueue(options: WriteQueueOptions, scope: Scope): WriteQueue {
  const { clock, random, log, holds } = options;
  const pending = new Set<string>();
  const busy = new Set<string>();
  const failures = new Map<string, number>();
  let tokens = burst;
  let filledAt = clock.monotonic();
  let running = 0;

  const take = async (): Promise<void> => {
    for (;;) {
      const now = clock.monotonic();
      tokens = Math.min(burst, tokens + ((now - filledAt) / 1_000) * options.perSecond);
      filledAt = now;
      if (tokens >= 1) {
        tokens -= 1;
        return;
      }
      await sleep(clock, Math.ceil(1_000 / options.perSecond), scope.signal);
    }
  };

  const one = async (key: string): Promise<void> => {
    try {
      await options.write(key);
      failures.delete(key);
      options.onOutcome(key, undefined);
    } catch (caught) {
      if (scope.closed) return;
      const attempt = (failures.get(key) ?? 0) + 1;
      failures.set(key, attempt);
      const failure = Failure.from(caught);
      options.onOutcome(key, failure);
      log.debug({ key, err: failure, attempt }, "not written, tried again later");
      clock.after(backoffMs(attempt, retry, random), () => poke(key), { background: true });
    }
  };

  const next = (): string | undefined => {
    for (const key of pending) if (!busy.has(key)) return key;
    return undefined;
  };

  const work = async (): Promise<void> => {
    try {
      for (;;) {
        if (next() === undefined || scope.closed) return;
        await take();
        if (!holds()) return;
        const key = next();
        if (key === undefined) return;
        pending.delete(key);
        busy.add(key);
        await one(key);
        busy.delete(key);
      }
    } catch (caught) {
      if (!scope.closed) log.error({ err: caught }, "writing stopped");
    } finally {
      running--;
    }
  };

  function poke(key: string): void {
    if (scope.closed) return;
    pending.add(key);
    while (running < atOnce && running < pending.size) {
      running++;
      void Promise.resolve().then(work);
    }
  }

  scope.defer(() => pending.clear());
  return {
    poke,
    get waiting() {
      return pending.size;
    },
  };
}
