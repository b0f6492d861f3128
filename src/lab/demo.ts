import { Failure } from "../base/index.ts";
import type { LabMode } from "./types.ts";

/**
 * The example as a scene: two clusters, the call through both, its hops from the proxies' own logs. Resolves with the
 * exit code: with `once` after taking everything down, else when `signal` aborts (Ctrl-C).
 */
export function demo(_options: {
  readonly once: boolean;
  readonly name?: string;
  readonly mode?: LabMode;
  readonly write: (line: string) => void;
  /** A line that replaces the one before it while something is waited for; absent where output is no terminal. */
  readonly progress?: (line: string) => void;
  readonly signal?: AbortSignal;
}): Promise<number> {
  throw new Failure("lab/unfinished", "being written");
}
