import { Failure } from "../base/index.ts";
import type { LabStatus, LabTarget, LabUpOptions } from "./types.ts";

/** Brings a lab up and resolves when every pod is ready; a `Failure` says what did not come up, and nothing is left. */
export function labUp(_options: LabUpOptions): Promise<LabStatus> {
  throw new Failure("lab/unfinished", "being written");
}
/**
 * Applies manifests as `kubectl apply -f` would: `-` reads standard input, a folder is all its YAML files. Resolves with
 * a line an object (`serviceentry/httpbin-bar configured`). Refuses the whole call when anything in it is wrong.
 */
export function labApply(_options: {
  readonly lab: string;
  readonly cluster: string;
  readonly files: readonly string[];
  readonly namespace?: string;
}): Promise<readonly string[]> {
  throw new Failure("lab/unfinished", "being written");
}
/** Deletes objects: those of manifest files, or by kind and name (`serviceentry`, `httpbin-bar`). A line an object. */
export function labDelete(_options: {
  readonly lab: string;
  readonly cluster: string;
  readonly files?: readonly string[];
  readonly objects?: readonly { readonly kind: string; readonly name: string }[];
  readonly namespace?: string;
}): Promise<readonly string[]> {
  throw new Failure("lab/unfinished", "being written");
}
/** Runs a command inside a pod with this process's standard streams. Resolves with its exit code. */
export function labExec(_options: LabTarget & { readonly command: readonly string[] }): Promise<number> {
  throw new Failure("lab/unfinished", "being written");
}
/** Lines of a container's log (`app` name, `istio-proxy`, or `controlplane` as the workload), then new ones when followed. */
export function labLogs(
  _options: LabTarget & {
    readonly follow?: boolean;
    readonly tail?: number;
    readonly onLine: (line: string) => void;
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  throw new Failure("lab/unfinished", "being written");
}
/** The state of one lab; a `Failure` with code `lab/not-running` when there is none of that name. */
export function labStatus(_options: { readonly lab: string }): Promise<LabStatus> {
  throw new Failure("lab/unfinished", "being written");
}
/** Names of the labs that run. Folders of dead ones are swept on the way. */
export function labNames(): Promise<readonly string[]> {
  throw new Failure("lab/unfinished", "being written");
}
/** Takes a lab down and resolves when nothing of it is left. Says whether there was one; twice is fine. */
export function labDown(_options: { readonly lab: string }): Promise<"stopped" | "was not running"> {
  throw new Failure("lab/unfinished", "being written");
}
