import { backoffMs, type Clock, Failure, sleep } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { fieldManager } from "../names.ts";
import { type Change, createdAnnotation } from "./change.ts";
import { configMap, dataOf } from "./cluster-dns.ts";
import { undoAnnotation } from "./stub-domains.ts";
import { formatPlace, type Target } from "./targets.ts";

export interface WriteDeps {
  readonly api: ObjectApi;
  readonly clock: Clock;
  readonly random: () => number;
}

/** How often a write is tried that somebody else was faster at. */
const tries = 6;
const retry = { firstMs: 100, maxMs: 2_000 };

/**
 * Writes what `decide` makes of the ConfigMap as it is at that moment: an update that names the version it is of, and
 * begins anew when somebody else wrote meanwhile. Gives back the last decision, and the object as it then was.
 */
export async function writeTarget(
  target: Target,
  decide: (object: KubeObject | undefined) => Change,
  { api, clock, random }: WriteDeps,
): Promise<{ readonly change: Change; readonly wrote: boolean }> {
  const { place } = target;
  for (let attempt = 1; ; attempt++) {
    const object = await configMap(api, place.configMap, place.namespace);
    const change = decide(object);
    if (change.before === change.after && !undoChanges(object, change)) return { change, wrote: false };
    if (object?.["immutable"] === true) {
      throw new Failure("clusterdns/immutable", `${formatPlace(place)} is immutable`, {
        hint: "make it anew without `immutable: true`",
      });
    }
    try {
      await write(api, target, object, change);
      return { change, wrote: true };
    } catch (caught) {
      const failure = Failure.from(caught);
      if (failure.code !== "kube/conflict" || attempt >= tries) throw failure;
      await sleep(clock, backoffMs(attempt, retry, random));
    }
  }
}

async function write(api: ObjectApi, { place }: Target, object: KubeObject | undefined, change: Change): Promise<void> {
  const collection = `/api/v1/namespaces/${place.namespace}/configmaps`;
  const query = { fieldManager };
  const undo = change.undo ? JSON.stringify(change.undo) : null;
  if (!object) {
    const annotations = { [createdAnnotation]: "true", ...(undo === null ? {} : { [undoAnnotation]: undo }) };
    const body = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: place.configMap, namespace: place.namespace, annotations },
      data: { [place.key]: change.after },
    };
    await api.client.json({ method: "POST", path: collection, query, body });
    return;
  }
  const path = `${collection}/${place.configMap}`;
  const { resourceVersion, uid } = object.metadata;
  const left =
    Object.keys(dataOf(object)).filter((key) => key !== place.key).length +
    Object.keys(object["binaryData"] ?? {}).length;
  if (change.after === undefined && left === 0 && annotationsOf(object)[createdAnnotation] !== undefined) {
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions: { uid, resourceVersion } };
    await api.client.json({ method: "DELETE", path, body });
    return;
  }
  const body = {
    metadata: { resourceVersion, ...(change.undo === undefined ? {} : { annotations: { [undoAnnotation]: undo } }) },
    data: { [place.key]: change.after ?? null },
  };
  await api.client.json({ method: "PATCH", path, query, body, contentType: "application/merge-patch+json" });
}

function undoChanges(object: KubeObject | undefined, { undo }: Change): boolean {
  if (undo === undefined) return false;
  return (annotationsOf(object)[undoAnnotation] ?? null) !== (undo === null ? null : JSON.stringify(undo));
}

export function annotationsOf(object: KubeObject | undefined): Readonly<Record<string, string>> {
  return (object?.metadata["annotations"] ?? {}) as Readonly<Record<string, string>>;
}
