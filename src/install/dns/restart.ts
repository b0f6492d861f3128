import { type Clock, Failure, sleep } from "../../base/index.ts";
import type { ObjectApi } from "../../kube/index.ts";
import { fieldManager } from "../names.ts";
import type { Workload } from "./workload.ts";

const pauseMs = 1_000;

/** Starts the pods of the DNS anew, one after the other as its strategy says, and waits until all of them are. */
export async function restart(
  workload: Workload,
  { api, clock, waitMs }: { readonly api: ObjectApi; readonly clock: Clock; readonly waitMs: number },
): Promise<void> {
  const { kind, namespace, name } = workload;
  const path = `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`;
  // The annotation that kubectl rollout restart writes: whoever looks for the cause finds the same words.
  const annotations = { "kubectl.kubernetes.io/restartedAt": new Date(clock.now()).toISOString() };
  const body = { spec: { template: { metadata: { annotations } } } };
  const contentType = "application/merge-patch+json";
  await api.client.json({ method: "PATCH", path, query: { fieldManager }, body, contentType });
  const until = clock.monotonic() + waitMs;
  for (;;) {
    const object = await api.get({ apiVersion: "apps/v1", kind, metadata: { namespace, name } });
    if (object && isRolledOut(object as unknown as RolledOut)) return;
    if (clock.monotonic() >= until) {
      throw new Failure("clusterdns/restart", `${kind} ${namespace}/${name} did not restart in ${waitMs / 1_000} s`, {
        hint: `kubectl -n ${namespace} rollout status ${kind.toLowerCase()}/${name}`,
      });
    }
    await sleep(clock, pauseMs);
  }
}

interface RolledOut {
  readonly metadata: { readonly generation?: number };
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly replicas?: number;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

export function isRolledOut({ metadata, spec, status = {} }: RolledOut): boolean {
  if ((status.observedGeneration ?? 0) < (metadata.generation ?? 0)) return false;
  if (status.desiredNumberScheduled !== undefined) {
    const { desiredNumberScheduled: wanted, updatedNumberScheduled = 0, numberAvailable = 0 } = status;
    return updatedNumberScheduled >= wanted && numberAvailable >= wanted;
  }
  const wanted = spec?.replicas ?? 1;
  const { updatedReplicas = 0, availableReplicas = 0, replicas = 0 } = status;
  return updatedReplicas >= wanted && availableReplicas >= wanted && replicas <= updatedReplicas;
}
