import { Command } from "commander";
import { Failure, systemClock } from "../../base/index.ts";
import {
  type Change,
  type Checked,
  changeLines,
  checkTarget,
  checkTogether,
  demoCacerts,
  dnsService,
  ingressName,
  installInto,
  type Manifest,
  plannedChanges,
  type Settings,
  serviceAddress,
  type Target,
} from "../../install/index.ts";
import {
  type ClusterFlags,
  confirmed,
  namedFor,
  type SettingsFlags,
  settingsFrom,
  timeoutOf,
  withClusters,
  withSettings,
  withTimeout,
} from "../install-flags.ts";
import { printLine } from "../output.ts";
import { ownCommand } from "../progress.ts";
import { inEach, Telling, withTargets } from "../side-by-side.ts";

type Flags = ClusterFlags &
  SettingsFlags & { readonly timeout: string; readonly yes: boolean; readonly dryRun: boolean };

/** One cluster, what it is told, and what was found in it. */
export interface Prepared {
  readonly target: Target;
  readonly settings: Settings;
  readonly checked: Checked;
}

/** `isthmus install`: everything that a mesh needs in a cluster, checked before, waited for after. */
export function installCommand(): Command {
  return withTimeout(withSettings(withClusters(new Command("install"))))
    .description("install the mesh in one cluster or several, or bring an installation up to date")
    .option("--dry-run", "check, and say what would change; nothing is written", false)
    .option("-y, --yes", "do not ask", false)
    .action((flags: Flags) =>
      withTargets(flags, async (targets) => {
        const telling = new Telling(targets);
        const prepared = await prepare(targets, await settingsFrom(flags), telling);
        const demo = demoFor(prepared);
        const planOf = ({ settings, checked, target }: Prepared) => ({
          settings,
          facts: checked.facts,
          demoCacerts: demo.get(target.context),
          timeoutMs: timeoutOf(flags),
        });
        if (flags.dryRun) {
          for (const one of prepared) printChanges(one, await plannedChanges(one.target, planOf(one)));
          return;
        }
        const names = prepared.map(({ settings }) => settings.cluster).join(", ");
        if (
          !(await confirmed(`Install profile ${prepared[0]!.settings.profile} in ${names}?`, {
            yes: flags.yes,
            otherwise: "yes",
          }))
        )
          throw new Failure("install/declined", "nothing was done");
        await inEach(targets, telling, async (target, tell) => {
          const one = prepared.find((candidate) => candidate.target === target)!;
          await installInto(target, planOf(one), tell);
          tell({ kind: "done", text: `${one.settings.cluster} is ready` });
        });
        await printNextSteps(prepared);
      }),
    );
}

/** Looks at all clusters at once. Throws `install/checks` with everything that is wrong in any of them. */
export async function prepare(
  targets: readonly Target[],
  told: Settings,
  telling: Telling,
): Promise<readonly Prepared[]> {
  const prepared = await Promise.all(
    targets.map(async (target) => {
      const settings = namedFor(told, target);
      return { target, settings, checked: await checkTarget(target, settings) };
    }),
  );
  const many = targets.length > 1;
  const problems: string[] = [];
  for (const { target, settings, checked } of prepared) {
    const tell = telling.for(target);
    const named =
      told.cluster === ""
        ? `cluster "${settings.cluster}" (the context's name for it; --set cluster=NAME for another), `
        : "";
    tell({ kind: checked.problems.length > 0 ? "failed" : "done", text: `${named}${checked.notes.join(", ")}` });
    for (const text of checked.warnings) tell({ kind: "note", text });
    problems.push(...checked.problems.map((problem) => `  ${many ? `${target.context}: ` : ""}${problem}`));
  }
  telling.clear();
  const together = checkTogether(
    prepared.map(({ target, settings, checked }) => ({ context: target.context, settings, checked })),
  );
  problems.push(...together.map((problem) => `  ${problem}`));
  if (problems.length > 0) throw new Failure("install/checks", `nothing was written, because:\n${problems.join("\n")}`);
  return prepared;
}

/** Demo certificates for the clusters that have none, by context. All of them get one root; so none may have another. */
function demoFor(prepared: readonly Prepared[]): ReadonlyMap<string, Manifest> {
  const lacking = prepared.filter(({ checked }) => checked.facts.cacerts.kind === "missing");
  if (lacking.length === 0) return new Map();
  if (lacking.length < prepared.length) {
    const having = prepared.filter((one) => !lacking.includes(one)).map(({ target }) => target.context);
    throw new Failure(
      "install/checks",
      `nothing was written, because ${having.join(", ")} has cacerts and the others have none`,
      {
        hint: "the others' would be of another root: delete the Secret cacerts to have all made anew, or load a set for each",
      },
    );
  }
  const { namespace } = prepared[0]!.settings;
  const made = demoCacerts(
    lacking.map(({ settings }) => settings.cluster),
    { nowMs: systemClock.now(), namespace },
  );
  return new Map(lacking.map(({ target, settings }) => [target.context, made.get(settings.cluster)!]));
}

export function printChanges(
  { target, settings }: Pick<Prepared, "target" | "settings">,
  changes: readonly Change[],
): void {
  const lines = changeLines(changes);
  const same = changes.filter(({ kind }) => kind === "unchanged").length;
  printLine(`${target.context} (cluster ${settings.cluster}): ${changes.length - same} to change, ${same} unchanged`);
  for (const line of lines) printLine(`  ${line}`);
}

async function printNextSteps(prepared: readonly Prepared[]): Promise<void> {
  for (const { target, settings } of prepared) {
    const { namespace, cluster } = settings;
    const context = `--context ${target.context}`;
    printLine();
    printLine(`Next, in ${cluster}:`);
    if (settings.gateways.ingress.enabled) {
      const found = await serviceAddress(target, { namespace, name: ingressName });
      if (found.kind === "address") printLine(`  Other clusters reach it at ${found.address}:${found.port}`);
      if (found.kind === "node-port")
        printLine(`  Other clusters reach it at a node's address, port ${found.port} (in place of 15443)`);
      if (found.kind === "pending")
        printLine(`  Its gateway has no address yet: kubectl ${context} -n ${namespace} get service ${ingressName}`);
    }
    if (settings.dns.enabled)
      printLine(`  Send names of .global to Service ${dnsService}: ${ownCommand()} dns install ${context}`);
    printLine(`  Let pods of a namespace join: kubectl ${context} label namespace NAME istio-injection=enabled`);
  }
}
