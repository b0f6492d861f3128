import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { backoffMs, type Clock, type Logger, sleep, type Timer } from "../base/index.ts";
import type { CommandLine } from "./network.ts";
import { descendants } from "./process-tree.ts";
import { ended } from "./run.ts";

export type ProgramState =
  | { readonly phase: "running"; readonly pid: number }
  | { readonly phase: "waiting"; readonly why: string }
  | { readonly phase: "stopped" };

export interface ProgramOptions {
  readonly name: string;
  /** Made anew for each start. */
  readonly line: () => CommandLine;
  /** Both streams go to this file, behind what is there. */
  readonly logFile: string;
  readonly cwd?: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Told after each start and each end. */
  readonly onChange: () => void;
}

/** How a program that keeps ending is started again. A run longer than `settledMs` counts as a good one. */
const restart = { firstMs: 500, maxMs: 30_000 };
const settledMs = 10_000;

/** A process that is kept running: started again, with growing waits, when it ends by itself. */
export class Program {
  readonly #options: ProgramOptions;
  #child: ChildProcess | undefined;
  #state: ProgramState = { phase: "stopped" };
  #timer: Timer | undefined;
  #wanted = true;
  #startedAt = 0;
  #failures = 0;
  restarts = 0;

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.#start();
  }

  get state(): ProgramState {
    return this.#state;
  }

  /** How often in a row it ended soon after its start. */
  get failures(): number {
    return this.#failures;
  }

  #start(): void {
    const { line, logFile, cwd, clock, name, log } = this.#options;
    const { argv, env } = line();
    const out = openSync(logFile, "a");
    this.#startedAt = clock.monotonic();
    const child = spawn(argv[0]!, argv.slice(1), { cwd: cwd ?? "/", env: { ...env }, stdio: ["ignore", out, out] });
    this.#child = child;
    const onEnd = (why: string) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      if (!this.#wanted) {
        this.#state = { phase: "stopped" };
        return;
      }
      this.#failures = clock.monotonic() - this.#startedAt > settledMs ? 1 : this.#failures + 1;
      this.#state = { phase: "waiting", why };
      log.warn({ name, why, failures: this.#failures }, "program ended by itself");
      this.#timer = clock.after(backoffMs(this.#failures, restart, this.#options.random), () => {
        this.restarts++;
        this.#start();
        this.#options.onChange();
      });
      this.#options.onChange();
    };
    child.once("error", (error) => {
      const line = openSync(logFile, "a");
      writeSync(line, `${name}: ${error.message}\n`);
      closeSync(line);
      onEnd(error.message);
    });
    child.once("exit", (code, signal) => onEnd(signal ? `ended by ${signal}` : `ended with exit code ${code}`));
    closeSync(out);
    this.#state = child.pid === undefined ? this.#state : { phase: "running", pid: child.pid };
  }

  /** Asks it to end, and ends it after `graceMs`. It is not started again. */
  async stop(graceMs: number): Promise<void> {
    this.#wanted = false;
    this.#timer?.cancel();
    const child = this.#child;
    if (!child) {
      this.#state = { phase: "stopped" };
      return;
    }
    child.kill("SIGTERM");
    const patience = new AbortController();
    await Promise.race([
      ended(child),
      sleep(this.#options.clock, graceMs, patience.signal).then(
        () => child.kill("SIGKILL"),
        () => false,
      ),
    ]);
    await ended(child);
    patience.abort();
    this.#state = { phase: "stopped" };
  }

  /** Sends a signal to it and to all that it started. */
  signal(signal: NodeJS.Signals): void {
    if (this.#child?.pid === undefined) return;
    for (const pid of descendants(this.#child.pid)) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended while we looked.
      }
    }
  }

  /** Ends it as a crash would; it is started again as after any other end. */
  crash(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }
}
