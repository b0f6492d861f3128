import { Failure, sleep } from "../../base/index.ts";
import type { KubeObject, ObjectName } from "../../kube/index.ts";
import { customKinds, kinds } from "../../resources/index.ts";
import {
  componentLabel,
  isOurs,
  partOfLabel,
  refusalsMap,
  revisionLabel,
  revisionNames,
  rootConfigMap,
} from "../names.ts";
import { nameOf } from "../render/object.ts";
import { placeOf } from "./apply.ts";
import { installedRevisions, labelOf, ourSelector } from "./facts.ts";
import { ownKinds } from "./kinds.ts";
import type { Target, Tell } from "./target.ts";

export interface UninstallWish {
  /** Of one revision only; undefined for all. The last revision takes what is shared along. */
  readonly revision: string | undefined;
  /** Definitions go even while users' objects are of them: those objects are lost then. */
  readonly purge: boolean;
  readonly timeoutMs: number;
}

/** What is to be deleted, in this order, and what of ours stays, with the reason. */
export interface UninstallPlan {
  readonly remove: readonly ObjectName[];
  readonly kept: readonly string[];
  readonly namespaces: readonly string[];
}

/** Webhooks first, so that nothing waits for who is gone; then who would make things anew; what others need last. */
const order: readonly string[] = [
  "MutatingWebhookConfiguration",
  "ValidatingWebhookConfiguration",
  "Gateway",
  "DestinationRule",
  "HorizontalPodAutoscaler",
  "Deployment",
];

/** Looks for all that is ours. Writes nothing. */
export async function planUninstall(
  target: Target,
  { revision, purge }: Omit<UninstallWish, "timeoutMs">,
): Promise<UninstallPlan> {
  const { api } = target;
  const installed = await installedRevisions(api);
  const whole = revision === undefined || installed.every((one) => one.revision === revision);
  const found: ObjectName[] = [];
  const kept: string[] = [];
  const namespaces: string[] = [];
  for (const { apiVersion, kind } of ownKinds) {
    for (const object of await api.list({ apiVersion, kind }, ourSelector)) {
      const name = { apiVersion, kind, metadata: placeOf(object.metadata) };
      // The selector says so already. What is deleted for good is looked at twice.
      if (!isOurs(object) || (!whole && !isOfRevision(object, kind, revision!))) continue;
      if (kind === "Namespace") namespaces.push(object.metadata.name);
      else if (kind !== "CustomResourceDefinition") found.push(name);
      else {
        const users = purge ? [] : await usersObjects(target, object.metadata.name);
        if (users.length === 0) found.push(name);
        else kept.push(`${nameOf(name)}: ${listed(users)} would go with it; delete those first, or say --purge`);
      }
    }
  }
  const rank = ({ kind }: ObjectName) => (order.includes(kind) ? order.indexOf(kind) : order.length);
  const remove = found
    .map((name, index) => ({ name, index }))
    .sort((a, b) => rank(a.name) - rank(b.name) || a.index - b.index);
  return { remove: remove.map(({ name }) => name), kept, namespaces };
}

function isOfRevision(object: KubeObject, kind: string, revision: string): boolean {
  if (kind === "Lease") return object.metadata.name === revisionNames(revision).leader;
  return labelOf(object, revisionLabel) === revision && labelOf(object, componentLabel) !== undefined;
}

/** Objects of a definition that are not ours. */
async function usersObjects({ api }: Target, definition: string): Promise<readonly string[]> {
  const kind = customKinds.find((one) => `${kinds[one].plural}.${kinds[one].group}` === definition);
  if (!kind) return [];
  for (const version of kinds[kind].versions) {
    const apiVersion = `${kinds[kind].group}/${version}`;
    if (!(await api.kind(apiVersion, kind))) continue;
    const all = await api.list({ apiVersion, kind });
    return all.filter((object) => !isOurs(object)).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  }
  return [];
}

function listed(names: readonly string[]): string {
  const most = 3;
  return names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
}

/** Deletes what the plan says and waits until it is gone. Run again, it finds less, and in the end nothing. */
export async function uninstallFrom(
  target: Target,
  plan: UninstallPlan,
  { revision, timeoutMs }: UninstallWish,
  tell: Tell,
): Promise<void> {
  const { api, clock } = target;
  const deadlineMs = clock.monotonic() + timeoutMs;
  const done: ObjectName[] = [];
  const remove = async (names: readonly ObjectName[], foreground: boolean) => {
    for (const name of names) {
      tell({ kind: "waiting", text: `removing ${nameOf(name)}` });
      if (await api.delete(name, { foreground })) done.push(name);
    }
    await waitUntilGone(target, { names, deadlineMs }, tell);
  };
  const early = plan.remove.filter(({ kind }) => order.includes(kind));
  await remove(
    early.filter(({ kind }) => kind !== "Deployment"),
    false,
  );
  const programs = early.filter(({ kind }) => kind === "Deployment");
  await remove(programs, true);
  // While a control plane ran it may have made anew what was found before.
  const left = plan.remove.filter(({ kind }) => !order.includes(kind));
  const late = programs.length === 0 ? [] : await madeMeanwhile(target, { known: left, revision });
  await remove([...left, ...late], false);
  for (const line of summary(done)) tell({ kind: "done", text: line });
  for (const namespace of plan.namespaces) await removeNamespace(target, { namespace, deadlineMs }, tell);
  for (const line of plan.kept) tell({ kind: "note", text: `kept ${line}` });
}

/** What control planes made by themselves since the plan: roots of trust, and what proxies refuse. */
async function madeMeanwhile(
  { api }: Target,
  { known, revision }: { readonly known: readonly ObjectName[]; readonly revision: string | undefined },
): Promise<readonly ObjectName[]> {
  // Of one revision among several, nothing: both are everybody's.
  const whole = revision === undefined || known.some(({ metadata }) => metadata.name === rootConfigMap);
  if (!whole) return [];
  const names = new Set(known.map(nameOf));
  const place = { apiVersion: "v1", kind: "ConfigMap" };
  const all = await api.list(place, ourSelector);
  return all
    .filter((object) => isOurs(object) && [rootConfigMap, refusalsMap].includes(object.metadata.name))
    .map(({ metadata }) => ({ ...place, metadata: placeOf(metadata) }))
    .filter((name) => !names.has(nameOf(name)));
}

function summary(names: readonly ObjectName[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const { kind } of names) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => `${kind}: ${count} removed`);
}

async function waitUntilGone(
  { api, clock, signal }: Target,
  { names, deadlineMs }: { readonly names: readonly ObjectName[]; readonly deadlineMs: number },
  tell: Tell,
): Promise<void> {
  for (const name of names) {
    for (let live = await api.get(name); live; live = await api.get(name)) {
      // Made anew meanwhile, by whomever: then the old one is gone.
      if (live.metadata["deletionTimestamp"] === undefined) break;
      const holders = (live.metadata["finalizers"] as readonly string[] | undefined) ?? [];
      const why = holders.length === 0 ? "" : `, held by ${holders.join(", ")}`;
      tell({ kind: "waiting", text: `waiting until ${nameOf(name)} is gone${why}` });
      if (clock.monotonic() >= deadlineMs)
        throw new Failure("install/not-gone", `${nameOf(name)} is not gone yet${why}`, {
          hint: "run the same command again to go on",
        });
      await sleep(clock, 300, signal);
    }
  }
}

async function removeNamespace(
  target: Target,
  { namespace, deadlineMs }: { readonly namespace: string; readonly deadlineMs: number },
  tell: Tell,
): Promise<void> {
  const others = await foreignIn(target, namespace);
  if (others.length > 0) {
    tell({
      kind: "note",
      text: `kept namespace ${namespace}: ${listed(others)} in it ${others.length === 1 ? "is" : "are"} not ours`,
    });
    return;
  }
  const name = { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } };
  await target.api.delete(name);
  await waitUntilGone(target, { names: [name], deadlineMs }, tell);
  tell({ kind: "done", text: `Namespace ${namespace}: removed` });
}

async function orNone(listed: Promise<readonly KubeObject[]>): Promise<readonly KubeObject[]> {
  return await listed.catch((caught: unknown) => {
    if (caught instanceof Failure && caught.code === "kube/not-found") return [];
    throw caught;
  });
}

/** What Kubernetes itself puts into every namespace, or keeps about what is there. */
const usual: ReadonlySet<string> = new Set(["ServiceAccount default", "ConfigMap kube-root-ca.crt"]);
const bookkeeping: ReadonlySet<string> = new Set(["Event", "Endpoints", "EndpointSlice", "PodMetrics"]);

/** Objects of a namespace that neither we nor Kubernetes made, and that nothing of ours owns. */
async function foreignIn({ api }: Target, namespace: string): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const apiVersion of await api.groupVersions()) {
    for (const { kind, namespaced, verbs } of await api.served(apiVersion)) {
      if (!namespaced || !verbs.includes("list") || !verbs.includes("delete") || bookkeeping.has(kind)) continue;
      // A kind whose definition has just gone is still told of for a moment.
      for (const object of await orNone(api.list({ apiVersion, kind, namespace }))) {
        const owned = ((object.metadata["ownerReferences"] as readonly unknown[] | undefined) ?? []).length > 0;
        const going = object.metadata["deletionTimestamp"] !== undefined;
        const name = `${kind} ${object.metadata.name}`;
        if (!owned && !going && !usual.has(name) && labelOf(object, partOfLabel) !== "isthmus") found.add(name);
      }
    }
  }
  return [...found];
}
