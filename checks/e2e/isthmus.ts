import { spawn } from "node:child_process";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");
/** Another build than dist/ where ISTHMUS_DIST names one. */
export const main = join(root, process.env["ISTHMUS_DIST"] ?? "dist", "cli/main.js");

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly env?: Record<string, string>;
  /** Called with each piece of standard output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** Runs the command as a user would, in a process of its own. Killed, and failed, after `timeoutMs`. */
export function isthmus(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [main, ...args], options);
}

export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { input = "", timeoutMs = 120_000, env = {}, onOutput } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      onOutput?.(text);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(
        new Error(
          `${program} ${args.join(" ")} did not end within ${timeoutMs} ms\n${stdout.slice(-2000)}\n${stderr.slice(-2000)}`,
        ),
      );
    }, timeoutMs);
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/**
 * Asks again until `good` holds, every 50 ms; fails with what it last saw after `withinMs`. Returns the time it took.
 * One look may last longer than all of `withinMs` on a machine that is busy, so there are always three.
 */
export async function eventually<T>(
  ask: () => Promise<T>,
  good: (seen: T) => boolean,
  withinMs: number,
): Promise<{ readonly seen: T; readonly tookMs: number }> {
  const start = performance.now();
  for (let looks = 1; ; looks++) {
    const seen = await ask();
    const tookMs = performance.now() - start;
    if (good(seen)) return { seen, tookMs };
    if (tookMs > withinMs && looks >= 3)
      throw new Error(`not within ${withinMs} ms; last seen: ${JSON.stringify(seen, null, 1).slice(0, 3000)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
