import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { Failure } from "../base/index.ts";
import { isRoot, toolEnv } from "./enclosure.ts";
import { childOf } from "./process-tree.ts";
import type { TargetPlace } from "./protocol.ts";
import { paths, readPid } from "./state-folder.ts";

export interface PodRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command inside a pod, from outside the lab. With `pipe` its output comes back, otherwise it is this process's own. */
export async function runInPod(options: {
  readonly folder: string;
  readonly place: TargetPlace;
  readonly command: readonly string[];
  readonly stdio: "inherit" | "pipe";
  readonly timeoutMs?: number;
}): Promise<PodRun> {
  const { folder, place, command, stdio, timeoutMs } = options;
  const argv = place.holder === undefined ? command : [...enterLine(folder, place.holder), ...command];
  const env = { ...place.env, ...(process.env["TERM"] ? { TERM: process.env["TERM"] } : {}), PATH: toolEnv()["PATH"] };
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: "/",
    env,
    stdio: stdio === "inherit" ? "inherit" : ["ignore", "pipe", "pipe"],
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: "SIGKILL" as const }),
  });
  const forward = stdio === "inherit" ? forwardSignals(child) : () => {};
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => {
      forward();
      if (cause.code === "ENOENT") resolve({ code: 127, stdout: "", stderr: `${argv[0]}: no such command` });
      else reject(new Failure("lab/exec", `"${argv[0]}" could not be started: ${cause.message}`, { cause }));
    });
    child.once("close", (code, signal) => {
      forward();
      // As a shell counts: 128 and the signal's number.
      resolve({ code: code ?? 128 + (signal ? constants.signals[signal] : 0), ...output });
    });
  });
}

/** Before a command that is to run in a pod. The first process of the lab's tree is entered first; its view of processes then finds the pod's holder. */
export function enterLine(folder: string, holder: number): readonly string[] {
  const tree = readPid(paths(folder).tree);
  const init = tree === undefined ? undefined : childOf(tree);
  if (init === undefined) throw new Failure("lab/not-running", "the lab's processes are gone");
  const user = isRoot() ? [] : ["-U", "--preserve-credentials"];
  return ["nsenter", "-t", String(init), ...user, "-p", "-m", "-n", "nsenter", "-t", String(holder), "-n", "-m", "-u"];
}

/** Ctrl-C reaches the command by the terminal itself; we only must not die before it does. */
function forwardSignals(child: ChildProcess): () => void {
  const ignore = () => {};
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  process.on("SIGINT", ignore);
  process.on("SIGTERM", pass);
  process.on("SIGHUP", pass);
  return () => {
    process.off("SIGINT", ignore);
    process.off("SIGTERM", pass);
    process.off("SIGHUP", pass);
  };
}
