import { type ChildProcess, spawn } from "node:child_process";
import { Failure } from "../base/index.ts";

/** What a program that ran to its end said. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Most bytes kept of each stream: these are short tools, and a runaway one must not fill memory. */
const outputLimit = 1024 * 1024;

/** Runs a short program to its end. A program that cannot be started, or that a signal ended, counts as code 127 or 128. */
export function run(
  argv: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number } = {},
): Promise<Finished> {
  return new Promise((resolve) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...(options.env ? { env: options.env } : {}),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: "SIGKILL" as const }),
    });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name]!.setEncoding("utf8").on("data", (text: string) => {
        if (output[name].length < outputLimit) output[name] += text;
      });
    }
    child.once("error", (error) => resolve({ code: 127, stdout: "", stderr: error.message }));
    child.once("close", (code, signal) => {
      resolve({ code: code ?? 128, ...output, ...(signal ? { stderr: `${output.stderr}ended by ${signal}` } : {}) });
    });
    // A program that ends before it has read everything breaks the pipe; its exit code tells more than the pipe does.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input);
  });
}

/** Runs a short program that must succeed; its standard output. Throws a `Failure` with what it complained about. */
export async function must(
  what: string,
  argv: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number } = {},
): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options);
  if (code === 0) return stdout;
  const said = stderr.trim().split("\n").slice(-4).join("; ");
  throw new Failure("lab/program", `${what}: "${argv[0]}" ended with ${code}: ${said || "it said nothing"}`);
}

/** Resolves when a process has ended; at once when it has already. */
export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
}
