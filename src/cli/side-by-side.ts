import { createColors } from "picocolors";
import { explain, Failure, Scope } from "../base/index.ts";
import type { Progress, Target, Tell } from "../install/index.ts";
import { type ClusterFlags, targetsOf } from "./install-flags.ts";
import { interruptible, type ProgressLine, progressLine } from "./progress.ts";

/** Runs work with the clusters that were named, and closes all connections after it, however it ends. */
export async function withTargets<T>(
  flags: ClusterFlags,
  work: (targets: readonly Target[]) => Promise<T>,
): Promise<T> {
  return await interruptible(async (signal) => {
    const scope = new Scope();
    try {
      return await work(await targetsOf(flags, scope, signal));
    } catch (caught) {
      if (!signal.aborted) throw caught;
      throw new Failure("install/interrupted", "interrupted: what was done stays; run the same command again to go on");
    } finally {
      await scope.close();
    }
  });
}

/** What several clusters tell at once: lines that stay, with the cluster's name where there are several, and what each waits for. */
export class Telling {
  readonly #line: ProgressLine;
  readonly #colors = createColors(process.stdout.isTTY === true);
  readonly #waiting = new Map<string, string>();
  readonly #many: boolean;

  constructor(targets: readonly Target[], line: ProgressLine = progressLine()) {
    this.#many = targets.length > 1;
    this.#line = line;
  }

  for({ context }: Target): Tell {
    return (progress) => this.#tell(context, progress);
  }

  #tell(context: string, { kind, text }: Progress): void {
    const prefix = this.#many ? `${context}: ` : "";
    if (kind === "waiting") {
      this.#waiting.set(context, `${prefix}${text}`);
    } else {
      const { green, red, yellow } = this.#colors;
      const sign = { done: green("✔"), failed: red("✘"), note: yellow("!") }[kind];
      this.#line.write(`${sign} ${prefix}${text}`);
      this.#waiting.delete(context);
    }
    this.#line.waiting([...this.#waiting.values()].join("   "));
  }

  /** The end of waiting. */
  clear(): void {
    this.#waiting.clear();
    this.#line.waiting("");
  }
}

/** Does the same in all clusters at once. One that fails keeps no other from being finished; then all failures are thrown. */
export async function inEach(
  targets: readonly Target[],
  telling: Telling,
  work: (target: Target, tell: Tell) => Promise<void>,
): Promise<void> {
  const failures: Array<{ readonly target: Target; readonly failure: Failure }> = [];
  await Promise.all(
    targets.map(async (target) => {
      const tell = telling.for(target);
      await work(target, tell).catch((caught: unknown) => {
        const failure = Failure.from(caught);
        failures.push({ target, failure });
        if (!target.signal.aborted) tell({ kind: "failed", text: failure.message });
      });
    }),
  );
  telling.clear();
  const [only, ...more] = failures;
  if (!only) return;
  if (more.length === 0 && targets.length === 1) throw only.failure;
  const lines = failures.map(({ target, failure }) => `  ${target.context}: ${explain(failure)}`);
  throw new Failure(
    only.failure.code,
    `failed in ${failures.length} of ${targets.length} clusters:\n${lines.join("\n")}`,
  );
}
