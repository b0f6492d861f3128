import { backoffMs, sleep } from "../../../src/base/index.ts";
import type { ContainerRun } from "./container-run.ts";
import type { StartProblem } from "./container-start.ts";
import type { NodeParts } from "./node-parts.ts";
import type { PodObject } from "./pod-object.ts";
import { runsAgain } from "./pod-status.ts";

/** How a container that ends is started again: at once, then later and later. A run longer than `settledMs` counts as good. */
const restart = { firstMs: 2_000, maxMs: 60_000 };
const settledMs = 60_000;
/** How long what is missing is waited for before it is looked for again, when nobody says that it has come. */
export const lookAgainMs = 10_000;

/** Starts the containers of a pod, and starts them again, as the pod's policy says. */
export class ContainerKeeper {
  readonly #parts: NodeParts;
  readonly #pod: () => PodObject;
  readonly #over: AbortSignal;
  readonly #news: () => AbortSignal;

  constructor(options: {
    readonly parts: NodeParts;
    readonly pod: () => PodObject;
    /** Aborts when nothing is to be started any more. */
    readonly over: AbortSignal;
    /** Aborts at the next change of what containers are made of. */
    readonly news: () => AbortSignal;
  }) {
    this.#parts = options.parts;
    this.#pod = options.pod;
    this.#over = options.over;
    this.#news = options.news;
  }

  /** Sleeps, but wakes at news; throws when nothing is to be started any more. */
  async pause(ms: number, news: AbortSignal): Promise<void> {
    await sleep(this.#parts.clock, ms, AbortSignal.any([news, this.#over])).catch(() => {});
    this.#over.throwIfAborted();
  }

  /** Runs a container again and again. `first`: its first start is over; `end`: it will not run again. */
  supervise(run: ContainerRun): { readonly first: Promise<void>; readonly end: Promise<void> } {
    let started = () => {};
    let gaveUp: (why: unknown) => void = () => {};
    const first = new Promise<void>((resolve, reject) => {
      started = resolve;
      gaveUp = reject;
    });
    const running = async () => {
      for (let failures = 0; ; ) {
        await this.#start(run);
        started();
        const began = this.#parts.clock.monotonic();
        const { code } = await run.ended;
        if (this.#over.aborted || !runsAgain(run.spec, this.#policy, code)) return;
        failures = this.#parts.clock.monotonic() - began > settledMs ? 1 : failures + 1;
        await this.#backOff(run, failures);
      }
    };
    const end = running().catch((caught) => {
      if (!this.#over.aborted) throw caught;
    });
    end.then(started, gaveUp);
    return { first, end };
  }

  /** Runs a container until it ends well; false when it did not and never will. */
  async runToEnd(run: ContainerRun): Promise<boolean> {
    for (let failures = 1; ; failures++) {
      await this.#start(run);
      const { code } = await run.ended;
      this.#over.throwIfAborted();
      if (code === 0) return true;
      if (this.#policy === "Never") return false;
      await this.#backOff(run, failures);
    }
  }

  get #policy(): string {
    return this.#pod().spec.restartPolicy ?? "Always";
  }

  /** Starts it, as often as it takes for what is missing to come. */
  async #start(run: ContainerRun): Promise<void> {
    let before: StartProblem | undefined;
    for (;;) {
      const news = this.#news();
      this.#over.throwIfAborted();
      const problem = await run.start();
      if (problem === undefined) return;
      if (before?.message !== problem.message) {
        this.#parts.record(this.#pod(), "Warning", "Failed", `Error: ${problem.message}`);
      }
      before = problem;
      await this.pause(lookAgainMs, news);
    }
  }

  async #backOff(run: ContainerRun, failures: number): Promise<void> {
    if (failures > 1) {
      const ms = backoffMs(failures - 1, restart, () => 1);
      const { name, namespace, uid } = this.#pod().metadata;
      const seconds = Math.round(ms / 1000);
      run.wait(
        "CrashLoopBackOff",
        `back-off ${seconds}s restarting failed container=${run.spec.name} pod=${name}_${namespace}(${uid})`,
      );
      const message = `Back-off restarting failed container ${run.spec.name}`;
      this.#parts.record(this.#pod(), "Warning", "BackOff", message);
      await sleep(this.#parts.clock, ms, this.#over);
    }
    this.#over.throwIfAborted();
  }
}
