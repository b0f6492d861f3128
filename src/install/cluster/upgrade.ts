import { Failure } from "../../base/index.ts";
import { stageNames } from "../render/manifest.ts";
import type { Settings } from "../settings/settings.ts";
import { applyOne, prune } from "./apply.ts";
import type { Facts } from "./checks.ts";
import { type Installed, installedRevisions } from "./facts.ts";
import { installInto, stagesFor } from "./install.ts";
import type { Target, Tell } from "./target.ts";
import { planUninstall, uninstallFrom } from "./uninstall.ts";
import { injectedPods } from "./verify.ts";

/** From which revision to which, as far as that can be told before. */
export interface Switch {
  readonly to: Installed & { readonly settings: Settings };
  /** What is the default now; none when there is none, or when it is `to` itself. */
  readonly from: Installed | undefined;
}

/** Throws `install/revision` when there is no such revision, or when it cannot be read. */
export async function planSwitch({ api }: Target, revision: string): Promise<Switch> {
  const installed = await installedRevisions(api);
  const to = installed.find((one) => one.revision === revision);
  if (!to)
    throw new Failure("install/revision", `revision "${revision}" is not installed`, {
      hint:
        installed.length === 0
          ? "isthmus install --revision installs it"
          : `there is ${installed.map((one) => `"${one.revision}"`).join(", ")}; isthmus install --set revision=${revision} installs it beside`,
    });
  const { settings } = to;
  if (!settings)
    throw new Failure("install/revision", `what revision "${revision}" was told cannot be read: install it again`);
  return { to: { ...to, settings }, from: installed.find((one) => one.isDefault && one.revision !== revision) };
}

/**
 * Makes a revision the default: first it takes over what label `istio-injection=enabled` means, gateways and DNS, and only
 * when those are up does the old one let go. A pod that is made in between gets one sidecar, of either.
 */
export async function switchTo(
  target: Target,
  { to, from }: Switch,
  options: { readonly facts: Facts; readonly timeoutMs: number },
  tell: Tell,
): Promise<void> {
  // Gateways and rules of the old one are of the new one from here on, where it wants them.
  const settings = from?.settings ? inheriting(to.settings, from.settings) : to.settings;
  const facts = { ...options.facts, isDefault: true };
  await installInto(target, { settings, facts, demoCacerts: undefined, timeoutMs: options.timeoutMs }, tell);
  if (!from?.settings) return;
  const old = stagesFor(from.settings, { ...options.facts, isDefault: false, trusted: true });
  const rendered = stageNames.flatMap((name) => old[name]);
  for (const manifest of [...old.base, ...old.webhooks])
    if (manifest.kind !== "Namespace" && manifest.kind !== "CustomResourceDefinition")
      await applyOne(target.api, manifest);
  const pruned = await prune(target.api, { revision: from.revision, rendered });
  tell({ kind: "done", text: `revision "${to.revision}" is the default; "${from.revision}" is not any more` });
  if (pruned.length > 0) tell({ kind: "done", text: `Removed with it: ${pruned.join(", ")}` });
}

/** What is shared by revisions, and was set up with the old one, is wanted of the new one too. */
function inheriting(settings: Settings, old: Settings): Settings {
  return { ...settings, gateways: old.gateways, dns: old.dns, multicluster: old.multicluster };
}

/** Pods that run on with the old revision until they are made anew, a line for each namespace. */
export async function stillOn(target: Target, revision: string): Promise<readonly string[]> {
  const pods = await injectedPods(target, [revision]);
  return [...pods].map(
    ([namespace, names]) =>
      `${namespace}: ${names.length} ${names.length === 1 ? "pod" : "pods"} (${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""})`,
  );
}

/** Removes the old revision, unless pods still ask it: then throws `install/in-use`. */
export async function removeRevision(
  target: Target,
  { revision, timeoutMs }: { readonly revision: string; readonly timeoutMs: number },
  tell: Tell,
): Promise<void> {
  const users = await stillOn(target, revision);
  if (users.length > 0)
    throw new Failure(
      "install/in-use",
      `revision "${revision}" is still in use:\n${users.map((line) => `  ${line}`).join("\n")}`,
      {
        hint: "kubectl rollout restart deployment -n NAMESPACE makes pods anew; then run the same command again",
      },
    );
  const wish = { revision, purge: false, timeoutMs };
  await uninstallFrom(target, await planUninstall(target, wish), wish, tell);
}
