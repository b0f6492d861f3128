import type { Clock, Timer } from "../../../src/base/index.ts";
import type { ProbeSpec } from "./pod-object.ts";
import type { ProbeResult } from "./prober.ts";

/** What a probe's results so far come to. */
export interface Verdict {
  readonly good: boolean;
  /** How many like the last one, in a row. */
  readonly inARow: number;
  readonly lastOk: boolean;
}

/** Counts one more result: the verdict turns when enough in a row say the other. */
export function nextVerdict(before: Verdict, ok: boolean, spec: ProbeSpec): Verdict {
  const inARow = before.lastOk === ok ? before.inARow + 1 : 1;
  const enough = ok ? (spec.successThreshold ?? 1) : (spec.failureThreshold ?? 3);
  return { good: inARow >= enough ? ok : before.good, inARow, lastOk: ok };
}

/** Asks again and again, a period apart, and tells of every turn. */
export class ProbeLoop {
  #verdict: Verdict;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: {
    readonly spec: ProbeSpec;
    /** What holds before the first result. */
    readonly initially: boolean;
    readonly check: () => Promise<ProbeResult>;
    readonly clock: Clock;
    /** Told of each turn, and of each failure. */
    readonly onTurn: (good: boolean, message: string) => void;
    readonly onFailure: (message: string) => void;
  }) {
    const { spec, check, clock, onTurn, onFailure } = options;
    this.#verdict = { good: options.initially, inARow: 0, lastOk: options.initially };
    const periodMs = (spec.periodSeconds ?? 10) * 1000;
    const look = async () => {
      const began = clock.monotonic();
      const { ok, message } = await check();
      if (this.#stopped) return;
      const before = this.#verdict;
      this.#verdict = nextVerdict(before, ok, spec);
      if (!ok) onFailure(message);
      if (before.good !== this.#verdict.good) onTurn(this.#verdict.good, message);
      // A container that never came up turns from nothing to bad.
      else if (!ok && !before.good && this.#verdict.inARow === (spec.failureThreshold ?? 3)) onTurn(false, message);
      if (!this.#stopped)
        this.#timer = clock.after(Math.max(0, periodMs - (clock.monotonic() - began)), () => void look());
    };
    this.#timer = clock.after((spec.initialDelaySeconds ?? 0) * 1000, () => void look());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
