import { Command } from "commander";
import { Failure } from "../../base/index.ts";
import {
  injectedPods,
  nameOf,
  planUninstall,
  removeClusterDns,
  rightsText,
  rightsToUninstall,
  rightsVerdict,
  type Target,
  type Tell,
  type UninstallPlan,
  uninstallFrom,
} from "../../install/index.ts";
import { writtenText } from "../dns-text.ts";
import { type ClusterFlags, confirmed, timeoutOf, withClusters, withTimeout } from "../install-flags.ts";
import { printLine } from "../output.ts";
import { inEach, Telling, withTargets } from "../side-by-side.ts";

type Flags = ClusterFlags & {
  readonly revision?: string;
  readonly purge: boolean;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly timeout: string;
};

/** `isthmus uninstall`: all that installation and a running control plane made, and nothing else. */
export function uninstallCommand(): Command {
  return withTimeout(withClusters(new Command("uninstall")))
    .description("remove all that the mesh made in a cluster, found by its labels, and nothing else")
    .option("--revision <name>", "only this revision")
    .option("--purge", "definitions too while users' objects are of them: those objects are lost", false)
    .option("--dry-run", "say what would go; nothing is deleted", false)
    .option("-y, --yes", "do not ask", false)
    .action((flags: Flags) =>
      withTargets(flags, async (targets) => {
        const telling = new Telling(targets);
        const wish = { revision: flags.revision, purge: flags.purge, timeoutMs: timeoutOf(flags) };
        const plans = new Map<Target, UninstallPlan>();
        for (const target of targets) {
          await mayUninstall(target);
          const plan = await planUninstall(target, wish);
          plans.set(target, plan);
          const tell = telling.for(target);
          if (isEmpty(plan)) tell({ kind: "done", text: "there is nothing of the mesh here" });
          else await warnOfUsers(target, flags.revision, (text) => tell({ kind: "note", text }));
          telling.clear();
          if (flags.dryRun) printPlan(target, plan);
        }
        const busy = targets.filter((target) => !isEmpty(plans.get(target)!));
        if (flags.dryRun || busy.length === 0) return;
        const count = busy.reduce((sum, target) => sum + plans.get(target)!.remove.length, 0);
        const question = `Remove ${count} objects from ${busy.map(({ context }) => context).join(", ")}?`;
        if (!(await confirmed(question, { yes: flags.yes, otherwise: "refuse" })))
          throw new Failure("install/declined", "nothing was done");
        await inEach(busy, telling, async (target, tell) => {
          // While the mesh's DNS still answers: a name that nobody asks for any more cannot fail.
          if (flags.revision === undefined) await forgetDns(target, "isthmus-system", tell);
          await uninstallFrom(target, plans.get(target)!, wish, tell);
        });
      }),
    );
}

function isEmpty({ remove, kept, namespaces }: UninstallPlan): boolean {
  return remove.length + kept.length + namespaces.length === 0;
}

async function mayUninstall({ api, context }: Target): Promise<void> {
  const verdict = await rightsVerdict(api, rightsToUninstall());
  if (verdict.kind !== "missing") return;
  const lines = rightsText(verdict.rights).map((line) => `  ${line}`);
  throw new Failure("install/checks", `nothing was deleted in ${context}: you lack these rights:\n${lines.join("\n")}`);
}

/** What `isthmus dns install` wrote goes as well; who may not write there hears of it, and the rest goes on. */
async function forgetDns({ api, clock }: Target, namespace: string, tell: Tell): Promise<void> {
  const wish = { domains: undefined, dryRun: false, restart: false, waitMs: 0 };
  try {
    const { written } = await removeClusterDns(wish, { api, clock, random: Math.random, namespace });
    for (const one of written) tell({ kind: "done", text: writtenText(one, "is as it was without the mesh") });
  } catch (caught) {
    const { code, message } = Failure.from(caught);
    if (code === "clusterdns/none") return;
    tell({ kind: "note", text: `the cluster's DNS may still ask the mesh (${message}): isthmus dns remove` });
  }
}

async function warnOfUsers(target: Target, revision: string | undefined, warn: (text: string) => void): Promise<void> {
  const pods = await injectedPods(target, revision === undefined ? undefined : [revision]);
  for (const [namespace, names] of pods)
    warn(
      `${names.length} ${names.length === 1 ? "pod" : "pods"} of namespace ${namespace} still ${names.length === 1 ? "has a sidecar" : "have sidecars"}: ` +
        "what runs goes on with what it knows; make the pods anew without",
    );
}

function printPlan({ context }: Target, { remove, kept, namespaces }: UninstallPlan): void {
  printLine(`${context}: ${remove.length} objects would go`);
  for (const name of remove) printLine(`  - ${nameOf(name)}`);
  for (const namespace of namespaces) printLine(`  - Namespace ${namespace}, unless something else is in it`);
  for (const line of kept) printLine(`  kept: ${line}`);
}
