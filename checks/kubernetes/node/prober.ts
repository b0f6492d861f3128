import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Scope } from "../../../src/base/index.ts";

/** One look at a pod from the machine's side. */
export type ProbeRequest =
  | {
      readonly kind: "http";
      readonly scheme: "http" | "https";
      readonly host: string;
      readonly port: number;
      readonly path: string;
      readonly headers: ReadonlyArray<{ readonly name: string; readonly value: string }>;
      readonly timeoutMs: number;
    }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly timeoutMs: number }
  | {
      readonly kind: "grpc";
      readonly host: string;
      readonly port: number;
      readonly service: string;
      readonly timeoutMs: number;
    };

export interface ProbeResult {
  readonly ok: boolean;
  readonly message: string;
}

export interface Prober {
  check(request: ProbeRequest): Promise<ProbeResult>;
}

/**
 * A process in the router's network that looks at pods: their packet filters meet a probe as they would meet a kubelet's.
 * One for a whole cluster, because a process for each look would cost more than the pods themselves.
 */
export function startProber(options: { readonly router: number; readonly program: string }, scope: Scope): Prober {
  const waiting = new Map<number, (result: ProbeResult) => void>();
  let asked = 0;
  let child: ChildProcess | undefined;
  const start = () => {
    const argv = [
      "-t",
      String(options.router),
      "-n",
      process.execPath,
      "--import",
      join(import.meta.dirname, "../typescript.mjs"),
      options.program,
    ];
    const started = spawn("nsenter", argv, { stdio: ["pipe", "pipe", "inherit"] });
    started.stdin.on("error", () => {});
    createInterface({ input: started.stdout }).on("line", (line) => {
      const { id, ...result } = JSON.parse(line) as ProbeResult & { readonly id: number };
      waiting.get(id)?.(result);
      waiting.delete(id);
    });
    const lost = () => {
      if (child !== started) return;
      child = undefined;
      for (const answer of waiting.values()) answer({ ok: false, message: "who looks at pods has ended" });
      waiting.clear();
    };
    started.once("error", lost);
    started.once("exit", lost);
    child = started;
    return started;
  };
  scope.defer(() => {
    child?.kill("SIGKILL");
  });
  return {
    check: (request) =>
      new Promise((resolve) => {
        if (scope.closed) return resolve({ ok: false, message: "the node stops" });
        const id = ++asked;
        waiting.set(id, resolve);
        (child ?? start()).stdin!.write(`${JSON.stringify({ id, ...request })}\n`);
      }),
  };
}
