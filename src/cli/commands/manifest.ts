import { Command } from "commander";
import { Failure, packageVersion } from "../../base/index.ts";
import { checkTarget, installedRevisions, plannedChanges, renderAll, writeChart } from "../../install/index.ts";
import { customKinds, customResourceDefinition, writeManifest } from "../../resources/index.ts";
import {
  type ClusterFlags,
  namedFor,
  type SettingsFlags,
  settingsFrom,
  withClusters,
  withSettings,
} from "../install-flags.ts";
import { exitCodes, printLine } from "../output.ts";
import { withTargets } from "../side-by-side.ts";
import { printChanges } from "./install.ts";

/** `isthmus manifest`: what a cluster needs, as text. Nothing is applied. */
export function manifestCommand(done: (code: number) => void): Command {
  const command = new Command("manifest").description("print what a Kubernetes cluster needs, to read or to apply");
  command
    .command("crds")
    .description("the definitions of the kinds that a cluster does not know by itself")
    .action(() => {
      process.stdout.write(writeManifest(customKinds.map(customResourceDefinition)));
    });
  withSettings(command.command("generate"))
    .description("all objects of an installation; Secret cacerts, which is yours, is not among them")
    .action(async (flags: SettingsFlags) => {
      const settings = await settingsFrom(flags);
      if (settings.cluster === "")
        throw new Failure("input/settings", "the cluster has no name", { hint: "say --set cluster=NAME" });
      // Applied at once, the validator must let through what comes before its control plane.
      process.stdout.write(writeManifest(renderAll(settings, { isDefault: true, trusted: false })));
    });
  withSettings(withClusters(command.command("diff")))
    .description("what installing would change in a cluster, as its API server says; exit 1 where something would")
    .action((flags: ClusterFlags & SettingsFlags) =>
      withTargets(flags, async (targets) => {
        let same = true;
        const told = await settingsFrom(flags);
        for (const target of targets) {
          const known = (await installedRevisions(target.api)).find((one) => one.revision === told.revision)?.settings;
          const silent = flags.filename === undefined && flags.set === undefined;
          const settings = silent && known ? known : namedFor(told, target);
          const { facts } = await checkTarget(target, settings);
          const changes = await plannedChanges(target, { settings, facts, demoCacerts: undefined, timeoutMs: 0 });
          if (changes.some(({ kind }) => kind !== "unchanged")) same = false;
          printChanges({ target, settings }, changes);
        }
        done(same ? exitCodes.good : exitCodes.wrong);
      }),
    );
  command
    .command("helm")
    .description("write a Helm chart of the same objects")
    .requiredOption("--out <dir>", "where to write it; made if it is not there")
    .action((flags: { readonly out: string }) => {
      for (const file of writeChart(flags.out, packageVersion())) printLine(file);
    });
  return command;
}
