import { Failure } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { isOurs } from "../names.ts";
import { type Manifest, nameOf } from "../render/object.ts";
import { isMapping } from "../settings/field.ts";
import { staleWebhooks } from "./apply.ts";

/** What applying one object would do. */
export type Change =
  | { readonly kind: "unchanged"; readonly manifest: Manifest }
  | { readonly kind: "created"; readonly manifest: Manifest }
  | { readonly kind: "changed"; readonly manifest: Manifest; readonly lines: readonly string[] }
  /** The server would refuse it. */
  | { readonly kind: "refused"; readonly manifest: Manifest; readonly failure: Failure };

/** Asks the server what it would make of each object, and writes nothing. */
export async function changesOf(api: ObjectApi, manifests: readonly Manifest[]): Promise<readonly Change[]> {
  return await Promise.all(manifests.map((manifest) => changeOf(api, manifest)));
}

async function changeOf(api: ObjectApi, manifest: Manifest): Promise<Change> {
  const live = await api.get(manifest);
  try {
    // What is to be taken out first is there still in a dry run.
    const stale = live ? staleWebhooks(live, manifest) : [];
    const webhooks = [...((manifest["webhooks"] ?? []) as typeof stale), ...stale];
    const tried = stale.length === 0 ? manifest : { ...manifest, webhooks };
    const after = await api.apply(tried, { force: !live || isOurs(live), dryRun: true });
    if (!live) return { kind: "created", manifest };
    const lines = differences(essence(live), essence(stale.length === 0 ? after : withoutWebhooks(after, stale)));
    return lines.length === 0 ? { kind: "unchanged", manifest } : { kind: "changed", manifest, lines };
  } catch (caught) {
    const failure = Failure.from(caught);
    // Its namespace or its kind is to be made first, which a dry run does not do.
    const early = failure.code === "kube/kind" || failure.code === "kube/not-found";
    return early && !live ? { kind: "created", manifest } : { kind: "refused", manifest, failure };
  }
}

function withoutWebhooks(object: KubeObject, stale: ReturnType<typeof staleWebhooks>): KubeObject {
  const webhooks = (object["webhooks"] ?? []) as typeof stale;
  return { ...object, webhooks: webhooks.filter(({ name }) => !stale.some((one) => one.name === name)) };
}

/** An object without what the server keeps about it. */
function essence(object: KubeObject): unknown {
  const { status: _status, metadata, ...rest } = object;
  const { managedFields: _m, resourceVersion: _r, generation: _g, uid: _u, creationTimestamp: _c, ...own } = metadata;
  return { ...rest, metadata: own };
}

/** One line for each field that differs: `spec.replicas: 2 → 3`. Entries of lists go by their names where they have one. */
export function differences(before: unknown, after: unknown, path = ""): readonly string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  if (isMapping(before) && isMapping(after)) {
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) =>
      differences(before[key], after[key], path === "" ? key : `${path}.${key}`),
    );
  }
  const [named, wanted] = [byName(before), byName(after)];
  if (named && wanted) {
    return [...new Set([...named.keys(), ...wanted.keys()])].flatMap((name) =>
      differences(named.get(name), wanted.get(name), `${path}[${name}]`),
    );
  }
  return [`${path}: ${shown(before)} → ${shown(after)}`];
}

function byName(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const names = value.map((entry) => (isMapping(entry) ? entry["name"] : undefined));
  if (!names.every((name) => typeof name === "string") || new Set(names).size !== names.length) return undefined;
  return new Map(value.map((entry, index) => [names[index] as string, entry]));
}

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

/** What would be done, object by object, for a person. */
export function changeLines(changes: readonly Change[]): readonly string[] {
  return changes.flatMap(linesOf);
}

function linesOf(change: Change): readonly string[] {
  const name = nameOf(change.manifest);
  switch (change.kind) {
    case "unchanged":
      return [];
    case "created":
      return [`+ ${name}`];
    case "changed":
      return [`~ ${name}`, ...change.lines.map((line) => `    ${line}`)];
    case "refused":
      return [`! ${name}: ${change.failure.message}`];
  }
}
