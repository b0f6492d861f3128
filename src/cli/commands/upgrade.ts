import { Command } from "commander";
import { Failure } from "../../base/index.ts";
import { planSwitch, removeRevision, stillOn, switchTo } from "../../install/index.ts";
import { type ClusterFlags, confirmed, timeoutOf, withClusters, withTimeout } from "../install-flags.ts";
import { inEach, Telling, withTargets } from "../side-by-side.ts";
import { prepare } from "./install.ts";

type Flags = ClusterFlags & {
  readonly to: string;
  readonly removeOld: boolean;
  readonly yes: boolean;
  readonly timeout: string;
};

/** `isthmus upgrade`: another revision, installed beside, becomes the one that namespaces and gateways use. */
export function upgradeCommand(): Command {
  return withTimeout(withClusters(new Command("upgrade")))
    .description(
      "make a revision that is installed beside the default one: what label istio-injection=enabled means, gateways, DNS. " +
        "(isthmus install brings a revision up to date in its place)",
    )
    .requiredOption("--to <revision>", "the revision, as isthmus install --revision made it")
    .option("--remove-old", "remove the revision that was the default, when no pod uses it any more", false)
    .option("-y, --yes", "do not ask", false)
    .action((flags: Flags) =>
      withTargets(flags, async (targets) => {
        const telling = new Telling(targets);
        if (!(await confirmed(`Make revision "${flags.to}" the default?`, { yes: flags.yes, otherwise: "yes" })))
          throw new Failure("install/declined", "nothing was done");
        const timeoutMs = timeoutOf(flags);
        await inEach(targets, telling, async (target, tell) => {
          const plan = await planSwitch(target, flags.to);
          const [prepared] = await prepare([target], plan.to.settings, telling);
          // Run again after the switch, the old one is the only other; of several nobody can tell.
          const others = prepared!.checked.facts.installed.filter(({ revision }) => revision !== flags.to);
          const old = plan.from ? [plan.from] : others;
          if (flags.removeOld && old.length > 1)
            throw new Failure(
              "install/revision",
              `there are ${others.map((one) => `"${one.revision}"`).join(", ")} beside`,
              {
                hint: "say which is to go: isthmus uninstall --revision NAME",
              },
            );
          await switchTo(target, plan, { facts: prepared!.checked.facts, timeoutMs }, tell);
          for (const { revision } of old) {
            for (const line of await stillOn(target, revision))
              tell({ kind: "note", text: `still on "${revision}": ${line}; kubectl rollout restart moves them` });
            if (flags.removeOld) {
              await removeRevision(target, { revision, timeoutMs }, tell);
              tell({ kind: "done", text: `revision "${revision}" is removed` });
            }
          }
        });
      }),
    );
}
