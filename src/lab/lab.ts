import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { Failure, sleep, systemClock } from "../base/index.ts";
import { chooseMode } from "./enclosure.ts";
import { runInPod } from "./exec.ts";
import { followFile } from "./follow.ts";
import { endTree, type Keeper, startKeeper } from "./keeper.ts";
import { askLab } from "./protocol.ts";
import {
  claimStateFolder,
  folderNames,
  keeperLives,
  paths,
  readPid,
  removeFolder,
  stateFolder,
  sweep,
} from "./state-folder.ts";
import type { LabPlan } from "./supervisor.ts";
import type { LabStatus, LabTarget, LabUpOptions } from "./types.ts";
import { labVariables, substitute } from "./variables.ts";

/** Brings a lab up and resolves when every pod is ready; a `Failure` says what did not come up, and nothing is left. */
export async function labUp(options: LabUpOptions): Promise<LabStatus> {
  checkClusters(options);
  const { name, onProgress = () => {}, signal } = options;
  const folder = await claimStateFolder(name);
  let keeper: Keeper | undefined;
  try {
    const choice = await chooseMode({
      ...(options.mode ? { forced: options.mode } : {}),
      onInstall: (news) => onProgress({ kind: "installing", ...news }),
    });
    if ("refused" in choice) {
      throw new Failure("lab/mode", `mode "${options.mode}" cannot be had here: ${choice.refused}`, {
        hint: "without --mode the lab takes what works",
      });
    }
    signal?.throwIfAborted();
    onProgress({ kind: "mode", ...choice.chosen });
    const place = { folder, mode: choice.chosen.mode };
    const embedded = (options.dataPlane ?? "embedded") === "embedded";
    const envoy = embedded ? undefined : await (await import("./data-plane.ts")).envoyOf(options, place);
    const plan: LabPlan = {
      name,
      clusters: options.clusters.map((cluster) => ({
        ...cluster,
        folders: cluster.folders.map((dir) => resolve(dir)),
      })),
      chosen: choice.chosen,
      logLevel: options.logLevel ?? "info",
      ...(envoy ? { envoy } : {}),
      ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
      ...(options.workloadCertTtl ? { workloadCertTtl: options.workloadCertTtl } : {}),
    };
    await new Promise<void>((up, fail) => {
      const onAbort = () => fail(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      startKeeper({
        plan,
        folder,
        onMessage: (message) => {
          if (message.kind === "progress") onProgress(message.progress);
          else if (message.kind === "up") up();
          else
            fail(new Failure(message.code, message.message, message.hint === undefined ? {} : { hint: message.hint }));
        },
        onEnd: () => fail(new Failure("lab/ended", `lab "${name}" ended while it was coming up${lastWords(folder)}`)),
      }).then((started) => {
        keeper = started;
        if (signal?.aborted) onAbort();
      }, fail);
    });
    const status = await askLab(name, { op: "status" });
    if (options.life !== "tied") keeper?.release();
    return status;
  } catch (caught) {
    await keeper?.end();
    removeFolder(folder);
    throw caught;
  }
}

function checkClusters({ clusters }: LabUpOptions): void {
  const names = clusters.map(({ name }) => name);
  const twice = names.find((name, position) => names.indexOf(name) !== position);
  if (twice !== undefined) throw new Failure("lab/clusters", `two clusters are named "${twice}"`);
  const wrong = names.find((name) => !/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(name));
  if (wrong !== undefined) {
    throw new Failure("lab/clusters", `"${wrong}" is no name for a cluster`, {
      hint: "use up to 32 lower-case letters, digits and dashes",
    });
  }
  if (names.length === 0) throw new Failure("lab/clusters", "a lab needs a cluster");
  if (names.length > 250)
    throw new Failure("lab/clusters", `${names.length} clusters are more than the 250 that have addresses`);
}

function lastWords(folder: string): string {
  try {
    const text = readFileSync(paths(folder).supervisorLog, "utf8").trim();
    return text === "" ? "" : `: ${text.split("\n").slice(-3).join("; ")}`;
  } catch {
    return ""; // The keeper has removed it already.
  }
}

/**
 * Applies manifests as `kubectl apply -f` would: `-` reads standard input, a folder is all its YAML files. Resolves with
 * a line an object (`serviceentry/httpbin-bar configured`). Refuses a file when anything in it is wrong.
 */
export async function labApply(options: {
  readonly lab: string;
  readonly cluster: string;
  readonly files: readonly string[];
  readonly namespace?: string;
}): Promise<readonly string[]> {
  const { lab, cluster, namespace = "default" } = options;
  const lines: string[] = [];
  for (const { file, text } of manifestTexts(options.files)) {
    lines.push(...(await askLab(lab, { op: "apply", cluster, text, file, namespace })));
  }
  return lines;
}

/** Deletes objects: those of manifest files, or by kind and name (`serviceentry`, `httpbin-bar`). A line an object. */
export async function labDelete(options: {
  readonly lab: string;
  readonly cluster: string;
  readonly files?: readonly string[];
  readonly objects?: readonly { readonly kind: string; readonly name: string }[];
  readonly namespace?: string;
}): Promise<readonly string[]> {
  const { lab, cluster, namespace = "default" } = options;
  const objects = (options.objects ?? []).map((object) => ({ ...object, namespace }));
  const variables = labVariables((await askLab(lab, { op: "status" })).clusters.map(({ name }) => name));
  for (const { file, text } of manifestTexts(options.files ?? [])) {
    // Not before: it takes many times what asking a lab does.
    const { readResources } = await import("../resources/index.ts");
    const read = readResources(substitute(text, variables).text, { cluster, file, defaultNamespace: namespace });
    objects.push(
      ...read.resources.map(({ kind, metadata }) => ({ kind, name: metadata.name, namespace: metadata.namespace })),
    );
  }
  if (objects.length === 0) throw new Failure("input/delete", "nothing to delete was named");
  return askLab(lab, { op: "delete", cluster, objects });
}

function manifestTexts(files: readonly string[]): readonly { readonly file: string; readonly text: string }[] {
  return files.flatMap((file) => {
    try {
      if (file === "-") return [{ file: "standard input", text: readFileSync(0, "utf8") }];
      if (!statSync(file).isDirectory()) return [{ file, text: readFileSync(file, "utf8") }];
      return readdirSync(file)
        .filter((name) => /\.(ya?ml|json)$/.test(name))
        .sort()
        .map((name) => ({ file: join(file, name), text: readFileSync(join(file, name), "utf8") }));
    } catch (caught) {
      throw new Failure("input/file", `cannot read "${file}": ${(caught as Error).message}`, { cause: caught });
    }
  });
}

/** Runs a command inside a pod with this process's standard streams. Resolves with its exit code. */
export async function labExec(options: LabTarget & { readonly command: readonly string[] }): Promise<number> {
  const { command, ...target } = options;
  if (command.length === 0) throw new Failure("input/exec", "no command was given", { hint: "put it behind --" });
  const place = await askLab(target.lab, { op: "target", ...target });
  if (place.holder === undefined && Object.keys(place.env).length === 0) {
    throw new Failure("lab/exec", `"${target.workload}" is no pod that commands can run in`);
  }
  return runInPod({ folder: stateFolder(target.lab), place, command, stdio: "inherit" }).then(({ code }) => code);
}

/** Lines of a container's log (`app` name, `istio-proxy`, or `controlplane` as the workload), then new ones when followed. */
export async function labLogs(
  options: LabTarget & {
    readonly follow?: boolean;
    readonly tail?: number;
    readonly onLine: (line: string) => void;
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  const { follow = false, tail, onLine, signal, ...target } = options;
  const { logFile } = await askLab(target.lab, { op: "target", ...target });
  await followFile({
    file: logFile,
    follow,
    onLine,
    clock: systemClock,
    ...(tail === undefined ? {} : { tail }),
    ...(signal ? { signal } : {}),
  });
}

/** The state of one lab; a `Failure` with code `lab/not-running` when there is none of that name. */
export function labStatus(options: { readonly lab: string }): Promise<LabStatus> {
  return askLab(options.lab, { op: "status" });
}

/** Names of the labs that run. Folders of dead ones are swept on the way. */
export async function labNames(): Promise<readonly string[]> {
  await sweep();
  return folderNames();
}

/** How long a lab that was told to end may take. */
const downMs = 15_000;

/** Takes a lab down and resolves when nothing of it is left. Says whether there was one; twice is fine. */
export async function labDown(options: { readonly lab: string }): Promise<"stopped" | "was not running"> {
  const folder = stateFolder(options.lab);
  const until = systemClock.monotonic() + downMs;
  let stopped = false;
  while (await keeperLives(folder)) {
    stopped = true;
    await endTree(folder);
    if (systemClock.monotonic() > until) {
      const keeper = readPid(paths(folder).keeper);
      throw new Failure("lab/down", `lab "${options.lab}" did not end in ${downMs / 1000} s`, {
        hint: `its keeper is process ${keeper}`,
      });
    }
    await sleep(systemClock, 50);
  }
  removeFolder(folder);
  return stopped ? "stopped" : "was not running";
}
