import type { Cell } from "../../base/index.ts";
import { type Collection, KubeRefusal, startReflector } from "../../kube/index.ts";
import type { Namespace } from "../../resources/index.ts";
import type { ResourceStore } from "../../sources/index.ts";
import { changesBetween } from "../../values/index.ts";
import type { DutyDeps } from "./duty.ts";
import { fieldManager, isOurs, ownLabels, rootConfigMap, rootKey } from "./names.ts";
import { startWriteQueue } from "./write-queue.ts";

/** The ConfigMap of one namespace, as far as it matters. */
export interface RootMap {
  readonly roots: unknown;
  readonly ours: boolean;
  readonly labelled: boolean;
}

/** What to do about one namespace. */
export type RootStep = "none" | "create" | "apply" | "foreign";

/** A namespace that ends takes no new objects; a ConfigMap of somebody else is left as it is. */
export function rootStep(
  wanted: string,
  of: { readonly namespace: "there" | "ending" | "gone"; readonly found: RootMap | undefined },
): RootStep {
  const { namespace, found } = of;
  if (namespace !== "there") return "none";
  if (!found) return "create";
  if (!found.ours) return "foreign";
  return found.roots === wanted && found.labelled ? "none" : "apply";
}

const collection: Collection = {
  group: "",
  version: "v1",
  plural: "configmaps",
  kind: "ConfigMap",
  only: rootConfigMap,
};

/**
 * Keeps the root of trust in every namespace, where workloads read whom to believe: made with the namespace, followed
 * when it rotates, put right when somebody changes or deletes it.
 */
export function keepRootMaps(deps: DutyDeps & { readonly store: ResourceStore; readonly roots: Cell<string> }): void {
  const { client, mandate, trouble, store, roots, clock, random, log } = deps;
  const { scope } = mandate;
  const found = new Map<string, RootMap>();
  let listed = false;
  const where = (namespace: string) => `ConfigMap ${namespace}/${rootConfigMap}`;

  const namespaces = () => store.view.value.byKind.Namespace;
  const stateOf = (name: string): "there" | "ending" | "gone" => {
    const namespace = byName.get(name);
    if (!namespace) return "gone";
    return namespace.metadata.deletionTimestamp === undefined ? "there" : "ending";
  };
  // One that stands in a folder only is none of the cluster's.
  const byName = new Map<string, Namespace>();
  const remember = (namespace: Namespace | undefined, before: Namespace | undefined) => {
    if (before) byName.delete(before.metadata.name);
    if (namespace && namespace.origin.file === undefined) byName.set(namespace.metadata.name, namespace);
  };

  async function write(namespace: string): Promise<void> {
    const wanted = roots.value;
    const step = rootStep(wanted, { namespace: stateOf(namespace), found: found.get(namespace) });
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const body = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: rootConfigMap, namespace, labels: ownLabels },
      data: { [rootKey]: wanted },
    };
    switch (step) {
      case "none":
        return;
      case "foreign":
        return trouble.set(where(namespace), {
          severity: "error",
          code: "control/foreign-object",
          message: `"${rootConfigMap}" is somebody else's (it has no label app.kubernetes.io/managed-by: isthmus) and is left as it is; workloads of namespace "${namespace}" do not know our root of trust. Delete it, and it is made anew`,
        });
      case "create":
        // A creation, and no apply: what somebody else made in this moment must not be written over.
        await client
          .json({ method: "POST", path, query: { fieldManager }, body, signal: scope.signal })
          .catch((caught: unknown) => {
            if (isEnding(caught) || (caught instanceof KubeRefusal && caught.status === 404)) return;
            throw caught;
          });
        return;
      case "apply":
        await client.json({
          method: "PATCH",
          path: `${path}/${rootConfigMap}`,
          query: { fieldManager, force: true },
          contentType: "application/apply-patch+yaml",
          body,
          signal: scope.signal,
        });
    }
  }

  const queue = startWriteQueue(
    {
      write,
      holds: mandate.holds,
      onOutcome: (namespace, failure) => {
        const step = rootStep(roots.value, { namespace: stateOf(namespace), found: found.get(namespace) });
        if (failure || step !== "foreign") trouble.outcome(where(namespace), failure);
      },
      perSecond: 50,
      clock,
      random,
      log,
    },
    scope,
  );
  const pokeAll = () => {
    if (listed) for (const name of byName.keys()) queue.poke(name);
  };

  let known = namespaces();
  for (const namespace of known.values()) remember(namespace, undefined);
  scope.defer(
    store.view.subscribe(() => {
      const now = namespaces();
      if (now === known) return;
      for (const { before, after } of changesBetween(known, now)) {
        remember(after, before);
        const name = (after ?? before)!.metadata.name;
        if (!after) trouble.clear(where(name));
        else if (listed) queue.poke(name);
      }
      known = now;
    }),
  );
  scope.defer(roots.subscribe(pokeAll));
  startReflector<RootMap>(
    {
      client,
      collection,
      read: ({ metadata, ...object }) => ({
        roots: (object["data"] as Record<string, unknown> | undefined)?.[rootKey],
        ours: isOurs(metadata),
        labelled: Object.entries(ownLabels).every(
          ([key, value]) => (metadata["labels"] as Record<string, unknown> | undefined)?.[key] === value,
        ),
      }),
      sink: {
        listed(all) {
          found.clear();
          for (const [name, value] of all) found.set(name.split("/")[0]!, value);
          listed = true;
          trouble.clear("ConfigMaps");
          pokeAll();
        },
        changed(changes) {
          for (const change of changes) {
            const namespace = change.name.split("/")[0]!;
            if (change.kind === "set") found.set(namespace, change.value);
            else found.delete(namespace);
            queue.poke(namespace);
          }
        },
        health(health) {
          if (health.kind === "current") trouble.clear("ConfigMaps");
          else
            trouble.set("ConfigMaps", {
              severity: "error",
              code: health.failure.code,
              message: `roots of trust are not kept right: ${health.failure.message}`,
            });
        },
      },
      clock,
      random,
    },
    scope,
  );
}

/** A namespace may have begun to end since it was last seen. */
function isEnding(caught: unknown): boolean {
  return caught instanceof KubeRefusal && (caught.reason === "NamespaceTerminating" || caught.status === 409);
}
