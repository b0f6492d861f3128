import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { main } from "../e2e/isthmus.ts";
import type { Result } from "./judge.ts";

export interface Target {
  readonly kind: "http" | "tcp";
  readonly host: string;
  readonly port: number;
}

export interface Caller {
  readonly cluster: string;
  readonly workload: string;
  /** As servers see it. */
  readonly identity: string;
  /** Resolves when its last answers are in: how many it sent, and how many it could not because too many were open. */
  stop(): Promise<{ readonly number: number; readonly skipped: number; readonly repeated: number }>;
}

/** Starts to call from inside a pod, at a steady rate. */
export function startCaller(options: {
  readonly lab: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly workload: string;
  readonly perSecond: number;
  readonly targets: readonly Target[];
  readonly onResult: (result: Result) => void;
  /** Told when it ends by itself. */
  readonly onBroken: (why: string) => void;
}): Caller {
  const { lab, cluster, namespace, workload, perSecond, targets, onResult, onBroken } = options;
  const identity = `spiffe://cluster.local/ns/${namespace}/sa/${workload}`;
  const program = [process.execPath, join(import.meta.dirname, "caller.mjs")];
  const argument = JSON.stringify({ identity, cluster, perSecond, targets });
  const exec = ["lab", "exec", "--name", lab, cluster, workload, "--", ...program, argument];
  const child: ChildProcess = spawn(process.execPath, [main, ...exec], { stdio: ["pipe", "pipe", "pipe"] });
  let last: { number: number; skipped: number; repeated: number } | undefined;
  let said = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    said = `${said}${text}`.slice(-2000);
  });
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const read = JSON.parse(line);
    if (read.finished) last = read;
    else onResult(read);
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  void ended.then(() => {
    if (!last) onBroken(`the caller ${cluster}/${workload} ended: ${said}`);
  });
  return {
    cluster,
    workload,
    identity,
    async stop() {
      child.stdin!.end();
      const patience = setTimeout(() => child.kill("SIGKILL"), 30_000);
      await ended;
      clearTimeout(patience);
      if (!last) throw new Error(`the caller ${cluster}/${workload} did not finish: ${said}`);
      return last;
    },
  };
}
