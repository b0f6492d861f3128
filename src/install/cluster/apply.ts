import { Failure, within } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import { componentLabel, isOurs, revisionLabel, rootConfigMap } from "../names.ts";
import { type Manifest, nameOf } from "../render/object.ts";
import { ourSelector } from "./facts.ts";
import { ownKinds } from "./kinds.ts";

/**
 * Applies one object. Fields of an object that is ours are taken from whoever changed them; of somebody else's object only
 * what nobody else owns. Throws `install/conflict` with the fields that others own, and as the server does, with the
 * object's name in front.
 */
export async function applyOne(api: ObjectApi, manifest: Manifest): Promise<void> {
  const name = nameOf(manifest);
  try {
    const live = await api.get(manifest);
    const ours = !live || isOurs(live);
    if (live && ours && staleWebhooks(live, manifest).length > 0) {
      const webhooks = webhooksOf(live).filter(({ name: kept }) =>
        webhooksOf(manifest).some((one) => one.name === kept),
      );
      await api.merge(manifest, { webhooks });
    }
    await api.apply(manifest, { force: ours });
  } catch (caught) {
    const failure = Failure.from(caught);
    if (failure.code !== "kube/conflict") throw within(name, failure);
    throw new Failure(
      "install/conflict",
      `${name} is somebody else's, and they own fields that we set: ${failure.message}`,
      {
        hint: "remove or rename that object if nobody needs it, then run the same command again",
        cause: failure,
      },
    );
  }
}

interface Webhook {
  readonly name: string;
}

function webhooksOf(object: { readonly [field: string]: unknown }): readonly Webhook[] {
  return (object["webhooks"] ?? []) as readonly Webhook[];
}

/**
 * Webhooks that are there and not wanted any more. An apply that leaves them out takes away what we own of them: the root
 * that the control plane put in stays, and what is left is refused as incomplete. So they have to be taken out whole.
 */
export function staleWebhooks(live: KubeObject, wanted: Manifest): readonly Webhook[] {
  return webhooksOf(live).filter(({ name }) => !webhooksOf(wanted).some((one) => one.name === name));
}

/** Kinds that are never pruned: shared by revisions, or made by a running control plane. */
const kept: readonly string[] = ["Namespace", "CustomResourceDefinition", "Secret", "Lease"];

/** Deletes what an earlier installation of the revision made and this one does not. Returns the names. */
export async function prune(
  api: ObjectApi,
  { revision, rendered }: { readonly revision: string; readonly rendered: readonly Manifest[] },
): Promise<readonly string[]> {
  const wanted = new Set(rendered.map(nameOf));
  const pruned: string[] = [];
  const selector = `${ourSelector},${componentLabel},${revisionLabel}=${revision}`;
  for (const { apiVersion, kind } of ownKinds) {
    if (kept.includes(kind)) continue;
    for (const object of await api.list({ apiVersion, kind }, selector)) {
      const named = { apiVersion, kind, metadata: placeOf(object.metadata) };
      if (!isOurs(object) || wanted.has(nameOf(named)) || object.metadata.name === rootConfigMap) continue;
      if (await api.delete(named)) pruned.push(nameOf(named));
    }
  }
  return pruned;
}

export function placeOf({ name, namespace }: { readonly name: string; readonly namespace?: string }) {
  return namespace === undefined ? { name } : { name, namespace };
}
