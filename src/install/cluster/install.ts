import { Failure, sleep, within } from "../../base/index.ts";
import { customKinds, kinds } from "../../resources/index.ts";
import { revisionNames } from "../names.ts";
import { renderStages, type Stages, stageNames } from "../render/manifest.ts";
import { type Manifest, nameOf } from "../render/object.ts";
import type { Settings } from "../settings/settings.ts";
import { applyOne, prune } from "./apply.ts";
import { type Change, changesOf } from "./changes.ts";
import type { Facts } from "./checks.ts";
import { isTrusted } from "./facts.ts";
import { waitForRollout } from "./rollout.ts";
import type { Target, Tell } from "./target.ts";

export interface InstallPlan {
  readonly settings: Settings;
  readonly facts: Facts;
  /** Demo certificates to load, where there are none and the profile allows it. */
  readonly demoCacerts: Manifest | undefined;
  /** How long the whole may take. */
  readonly timeoutMs: number;
}

const stageTitles: Readonly<Record<keyof Stages, string>> = {
  base: "Definitions",
  controlPlane: "Control plane",
  webhooks: "Webhooks",
  gateways: "Gateways",
  rules: "Mesh rules",
};
const lookMs = 500;

/** What is rendered without what is somebody else's and stays so. */
export function stagesFor(settings: Settings, facts: Facts): Stages {
  const all = renderStages(settings, facts);
  const ours = (manifests: readonly Manifest[]) => manifests.filter((manifest) => !staysForeign(manifest, facts));
  return { ...all, base: ours(all.base) };
}

function staysForeign(manifest: Manifest, { foreign }: Facts): boolean {
  return foreign.has(nameOf(manifest)) && ["Namespace", "CustomResourceDefinition"].includes(manifest.kind);
}

/** What installing would change. Writes nothing. */
export async function plannedChanges(
  target: Target,
  { settings, facts, demoCacerts }: InstallPlan,
): Promise<readonly Change[]> {
  const stages = stagesFor(settings, facts);
  const all = stageNames.flatMap((name) => stages[name]);
  const [first, ...rest] = all;
  return await changesOf(target.api, demoCacerts && first ? [first, demoCacerts, ...rest] : all);
}

/**
 * Applies everything in order, and waits after each stage for what the next one needs. Whatever was done before is done
 * again without harm, so an installation that was cut off anywhere is taken up. Throws a `Failure` that names the object.
 */
export async function installInto(target: Target, plan: InstallPlan, tell: Tell): Promise<void> {
  const { api, clock } = target;
  const { settings, demoCacerts } = plan;
  const deadlineMs = clock.monotonic() + plan.timeoutMs;
  const stages = stagesFor(settings, plan.facts);
  for (const name of stageNames) {
    const manifests = stages[name];
    if (manifests.length === 0) continue;
    const title = stageTitles[name];
    for (const [index, manifest] of manifests.entries()) {
      tell({ kind: "waiting", text: `${title}: ${index + 1} of ${manifests.length}: ${nameOf(manifest)}` });
      await applyOne(api, manifest);
    }
    if (name === "base") {
      if (demoCacerts) await loadDemo(target, demoCacerts, tell);
      await waitForDefinitions(target, { deadlineMs }, tell);
    }
    for (const { kind, metadata } of manifests) {
      if (kind !== "Deployment") continue;
      await waitForRollout(target, { namespace: settings.namespace, name: metadata.name, deadlineMs }, tell);
    }
    if (name === "webhooks") await waitForTrust(target, { settings, deadlineMs }, tell);
    tell({ kind: "done", text: `${title}: ${kindsText(manifests)}` });
  }
  const pruned = await prune(api, {
    revision: settings.revision,
    rendered: stageNames.flatMap((name) => stages[name]),
  });
  if (pruned.length > 0) tell({ kind: "done", text: `Removed what is no longer wanted: ${pruned.join(", ")}` });
}

async function loadDemo({ api }: Target, secret: Manifest, tell: Tell): Promise<void> {
  await applyOne(api, secret);
  tell({
    kind: "note",
    text: "cacerts made for a demo: whoever sees the cluster has its keys; never for anything that matters",
  });
}

/** `5 CustomResourceDefinition, 1 Namespace`. */
function kindsText(manifests: readonly Manifest[]): string {
  const counts = new Map<string, number>();
  for (const { kind } of manifests) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => (count === 1 ? kind : `${count} ${kind}`)).join(", ");
}

/** Until the API server serves the kinds, and really: an object of them can be asked for. */
async function waitForDefinitions(
  { api, clock, signal }: Target,
  { deadlineMs }: { readonly deadlineMs: number },
  tell: Tell,
): Promise<void> {
  const wanted = customKinds.map((kind) => ({ kind, apiVersion: `${kinds[kind].group}/v1alpha3` }));
  for (;;) {
    const served = await Promise.all(wanted.map(({ apiVersion, kind }) => api.kind(apiVersion, kind)));
    const missing = wanted.filter((_, index) => served[index] === undefined).map(({ kind }) => kind);
    if (missing.length === 0) return;
    tell({ kind: "waiting", text: `Definitions: waiting until ${missing.join(", ")} can be used` });
    if (clock.monotonic() >= deadlineMs)
      throw new Failure(
        "install/definitions",
        `the API server does not serve ${missing.join(", ")} of networking.istio.io/v1alpha3`,
        {
          hint: "kubectl describe crd shows why; run the same command again to go on",
        },
      );
    await sleep(clock, lookMs, signal);
  }
}

/** Until the control plane put its root into the webhooks: from then on what they refuse is refused. */
async function waitForTrust(
  { api, clock, signal }: Target,
  { settings, deadlineMs }: { readonly settings: Settings; readonly deadlineMs: number },
  tell: Tell,
): Promise<void> {
  const { injector, validator } = revisionNames(settings.revision);
  const configurations = [
    ...(settings.injection.enabled ? [{ kind: "MutatingWebhookConfiguration", name: injector }] : []),
    ...(settings.validation.enabled ? [{ kind: "ValidatingWebhookConfiguration", name: validator }] : []),
  ];
  for (const { kind, name } of configurations) {
    for (;;) {
      const found = await api.get({ apiVersion: "admissionregistration.k8s.io/v1", kind, metadata: { name } });
      if (isTrusted(found)) break;
      tell({ kind: "waiting", text: `Webhooks: waiting until the control plane put its root into ${name}` });
      if (clock.monotonic() >= deadlineMs)
        throw within(
          `${kind} ${name}`,
          new Failure(
            "install/webhooks",
            "the control plane did not put its root into it, so the API server cannot call it",
            {
              hint: `kubectl -n ${settings.namespace} logs -l app=isthmus shows why; run the same command again to go on`,
            },
          ),
        );
      await sleep(clock, lookMs, signal);
    }
  }
}
