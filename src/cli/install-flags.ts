import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { Failure, packageVersion, type Scope, systemClock } from "../base/index.ts";
import { fieldManager, readSettings, type Settings, type Target } from "../install/index.ts";
import { createKubeClient, loadAccess, ObjectApi } from "../kube/index.ts";
import { parseDuration } from "./duration.ts";
import { readManifests } from "./manifest-texts.ts";

// What the commands of installation have in common: which clusters, and what they are told.

export interface ClusterFlags {
  readonly context?: readonly string[];
  readonly kubeconfig?: string;
}

export interface SettingsFlags {
  readonly filename?: readonly string[];
  readonly set?: readonly string[];
  readonly revision?: string;
}

export function withClusters(command: Command): Command {
  return command
    .option("--context <name>", "of the kubeconfig; may be given several times; its current one unless given", collect)
    .option("--kubeconfig <file>", "else $KUBECONFIG, else ~/.kube/config");
}

export function withSettings(command: Command): Command {
  return command
    .option(
      "-f, --filename <file>",
      "settings; may be given several times, a later one covers an earlier one; - is standard input",
      collect,
    )
    .option("--set <path=value>", "one setting, over all files; a dot that is part of a key is written \\.", collect)
    .option("--revision <name>", "the same as --set revision=NAME");
}

export function withTimeout(command: Command): Command {
  return command.option("--timeout <duration>", "how long it may take", "5m");
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

export function timeoutOf({ timeout }: { readonly timeout: string }): number {
  return parseDuration(timeout, "--timeout");
}

/** The clusters that were named, in that order. Nothing is asked of them yet. Throws `kube/…`. */
export async function targetsOf(flags: ClusterFlags, scope: Scope, signal: AbortSignal): Promise<readonly Target[]> {
  const files = flags.kubeconfig ?? process.env["KUBECONFIG"] ?? join(homedir(), ".kube/config");
  const contexts: readonly (string | undefined)[] = flags.context ?? [undefined];
  const twice = contexts.find((context, index) => contexts.indexOf(context) !== index);
  if (twice !== undefined) throw new Failure("usage/name", `--context: "${twice}" is named twice`);
  return await Promise.all(
    contexts.map(async (context) => {
      const access = await loadAccess({ kind: "kubeconfig", files, ...(context === undefined ? {} : { context }) });
      const userAgent = `isthmus-install/${packageVersion()}`;
      const client = createKubeClient({ access, clock: systemClock, env: process.env, userAgent }, scope);
      const api = new ObjectApi({ client, fieldManager, clock: systemClock, random: Math.random, signal });
      return { context: access.name, clusterName: access.cluster ?? "", api, clock: systemClock, signal };
    }),
  );
}

/** Settings as files and options say. Throws `input/settings` with all that is wrong. */
export async function settingsFrom(flags: SettingsFlags): Promise<Settings> {
  const { texts, violations, unreadable } = await readManifests(flags.filename ?? []);
  if (unreadable[0]) throw unreadable[0];
  if (violations[0]) throw new Failure("input/settings", `"${violations[0].file}" ${violations[0].message}`);
  const sets = [...(flags.set ?? []), ...(flags.revision === undefined ? [] : [`revision=${flags.revision}`])];
  return readSettings({ files: texts, sets, version: packageVersion() });
}

/** With the cluster's name: as told, else as the context calls it. Throws `input/settings` when there is none. */
export function namedFor(settings: Settings, target: Pick<Target, "clusterName" | "context">): Settings {
  if (settings.cluster !== "") return settings;
  const { clusterName } = target;
  if (/^[A-Za-z0-9]([-A-Za-z0-9._]{0,56}[A-Za-z0-9])?$/.test(clusterName)) return { ...settings, cluster: clusterName };
  throw new Failure(
    "input/settings",
    `context "${target.context}" calls its cluster "${clusterName}", which cannot be a name in the mesh`,
    {
      hint: "say --set cluster=NAME: letters, digits, dash and dot, at most 58",
    },
  );
}

/** Whether a person says yes. Where nobody can be asked, `otherwise` counts. */
export async function confirmed(
  question: string,
  options: { readonly yes: boolean; readonly otherwise: "yes" | "refuse" },
): Promise<boolean> {
  if (options.yes) return true;
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    if (options.otherwise === "yes") return true;
    throw new Failure("usage/confirm", "nobody can be asked here whether it may be done", { hint: "say -y" });
  }
  const asking = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await asking.question(`${question} [y/N] `).finally(() => asking.close());
  return /^y(es)?$/i.test(answer.trim());
}
