import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import { run } from "../../../src/lab/run.ts";

export interface Exit {
  readonly code: number;
  readonly signal: number | undefined;
}

/** A container's process and all that it started. */
export interface ContainerProcess {
  readonly pid: number;
  /** Its file system is made and its command begins; false when it ended before. */
  readonly began: Promise<boolean>;
  readonly exit: Promise<Exit>;
  signal(signal: NodeJS.Signals): void;
}

/** Starts a container's script in its pod's place. Both streams go to the log. */
export function startProcess(options: {
  readonly enter: readonly string[];
  readonly script: string;
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
}): ContainerProcess {
  const { enter, script, env, logFile } = options;
  mkdirSync(dirname(logFile), { recursive: true });
  const log = openSync(logFile, "w");
  const argv = [...enter, "unshare", "--mount", "--propagation", "private", "sh", "-c", script];
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: "/",
    env,
    // A session of its own, so that what it started can be ended with it.
    detached: true,
    stdio: ["ignore", log, log, "pipe"],
  });
  closeSync(log);
  const signalAll = (signal: NodeJS.Signals) => {
    try {
      process.kill(-child.pid!, signal);
    } catch {
      // Nothing is left of it.
    }
  };
  const exit = new Promise<Exit>((resolve) => {
    child.once("error", () => resolve({ code: 128, signal: undefined }));
    child.once("exit", (code, signal) => {
      signalAll("SIGKILL");
      const number = signal ? constants.signals[signal] : undefined;
      resolve({ code: code ?? 128 + (number ?? 0), signal: number });
    });
  });
  const word = child.stdio[3] as Readable;
  const began = new Promise<boolean>((resolve) => {
    word.once("data", () => resolve(true));
    word.once("close", () => resolve(false));
    word.once("error", () => resolve(false));
  });
  return {
    pid: child.pid ?? -1,
    began,
    exit,
    signal: (signal) => {
      // As a container's first process gets it; the rest goes with it.
      if (signal === "SIGKILL") signalAll(signal);
      else child.kill(signal);
    },
  };
}

/** In front of a command that is to run inside a container that runs. */
export function execLine(pid: number, privileges: readonly string[], workingDir: string): readonly string[] {
  return ["nsenter", "-t", String(pid), "-m", "-n", "-u", "-i", ...privileges, "env", `--chdir=${workingDir}`];
}

/** Runs a command inside a container to its end, as probes and hooks do. */
export async function runInContainer(
  line: readonly string[],
  env: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<{ readonly code: number; readonly output: string }> {
  const { code, stdout, stderr } = await run(line, { env, timeoutMs });
  return { code, output: `${stdout}${stderr}`.trim().slice(0, 1000) };
}
