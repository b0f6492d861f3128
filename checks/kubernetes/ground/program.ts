import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { descendants } from "../../../src/lab/process-tree.ts";
import { ended } from "../../../src/lab/run.ts";

/**
 * A program of the ground. It ends with whoever started it, even by a kill that nobody can catch, and is not started
 * again by itself: tests decide that.
 */
export class GroundProgram {
  readonly #argv: readonly string[];
  readonly #logFile: string;
  #child: ChildProcess | undefined;

  constructor(argv: readonly string[], logFile: string) {
    this.#argv = argv;
    this.#logFile = logFile;
  }

  start(): void {
    if (this.running) return;
    const out = openSync(this.#logFile, "a");
    const line = ["--pdeathsig", "KILL", ...this.#argv];
    this.#child = spawn("setpriv", line, { cwd: "/", stdio: ["ignore", out, out] });
    this.#child.once("error", () => {});
    closeSync(out);
  }

  get running(): boolean {
    const child = this.#child;
    return child !== undefined && child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** Resolves when it has ended. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    if (!this.running) return;
    const all = descendants(this.#child!.pid!);
    // What entered a namespace for the program may wait in front of it, and ends when it does, unless it is held.
    process.kill(all.at(-1)!, signal);
    goOn(all);
    await ended(this.#child!);
  }

  /** Holds it still, or lets it go on: it answers nobody, and its connections stay open. */
  hold(still: boolean): void {
    if (!this.running) return;
    const all = descendants(this.#child!.pid!);
    if (still) process.kill(all.at(-1)!, "SIGSTOP");
    else goOn(all);
  }

  lastWords(): string {
    try {
      return readFileSync(this.#logFile, "utf8").trim().split("\n").slice(-8).join("\n");
    } catch {
      return "it said nothing";
    }
  }
}

function goOn(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGCONT");
    } catch {
      // It has ended.
    }
  }
}
