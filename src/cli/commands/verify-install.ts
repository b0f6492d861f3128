import { Command } from "commander";
import { Failure } from "../../base/index.ts";
import {
  checkTarget,
  installedRevisions,
  type Settings,
  type Target,
  verifyInstallation,
} from "../../install/index.ts";
import { type ClusterFlags, withClusters } from "../install-flags.ts";
import { exitCodes, printLine } from "../output.ts";
import { withTargets } from "../side-by-side.ts";

type Flags = ClusterFlags & { readonly revision?: string };

/** `isthmus verify-install`: whether everything that was installed is there and works; reads, and writes nothing. */
export function verifyInstallCommand(done: (code: number) => void): Command {
  return withClusters(new Command("verify-install"))
    .description("read every object of an installation back; exit 0 good, 1 not, 2 could not look")
    .option("--revision <name>", "only this revision")
    .action((flags: Flags) =>
      withTargets(flags, async (targets) => {
        let good = true;
        for (const target of targets) {
          for (const settings of await settingsOf(target, flags.revision))
            good = (await verify(target, settings)) && good;
        }
        done(good ? exitCodes.good : exitCodes.wrong);
      }),
    );
}

async function settingsOf({ api, context }: Target, revision: string | undefined): Promise<readonly Settings[]> {
  const installed = (await installedRevisions(api)).filter(
    (one) => revision === undefined || one.revision === revision,
  );
  if (installed.length > 0) return installed.flatMap(({ settings }) => settings ?? []);
  throw new Failure(
    "install/revision",
    `${revision === undefined ? "nothing" : `no revision "${revision}"`} is installed in ${context}`,
    {
      hint: "isthmus install installs it",
    },
  );
}

async function verify(target: Target, settings: Settings): Promise<boolean> {
  const checked = await checkTarget(target, settings);
  const verified = await verifyInstallation(target, settings, checked.facts);
  const wrong = verified.filter(({ problem }) => problem !== undefined);
  for (const { object, problem } of verified)
    printLine(problem === undefined ? `✔ ${object}` : `✘ ${object} ${problem}`);
  // Rights to install are no matter of whether it works.
  const { cacerts } = checked.facts;
  if (cacerts.kind !== "sound")
    printLine(
      `✘ Secret ${settings.namespace}/cacerts ${cacerts.kind === "missing" ? "is not there" : cacerts.problems.join("; ")}`,
    );
  for (const warning of checked.warnings) printLine(`! ${warning}`);
  const sound = wrong.length === 0 && cacerts.kind === "sound";
  printLine(
    `${target.context}: revision "${settings.revision}": ${verified.length - wrong.length} of ${verified.length} objects are good`,
  );
  return sound;
}
