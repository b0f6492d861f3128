import type { WantedPod } from "./workloads.ts";

/** What the plan needs to know of a pod that is there. */
export interface PlannedPod {
  readonly parts: { readonly wanted: WantedPod };
  readonly ready: boolean;
  readonly terminating: boolean;
}

/** Replicas of one Deployment, or the one pod of a name, belong together. */
export function groupOf({ namespace, workload }: WantedPod): string {
  return `${namespace}/${workload}`;
}

/**
 * From what is wanted and what is there to what is to be done. A replica goes when those that replace it can serve; a
 * pod that stands alone must go first, because its name is not free before.
 */
export function planPods<P extends PlannedPod>(
  wanted: readonly WantedPod[],
  pods: readonly P[],
): { readonly missing: readonly WantedPod[]; readonly stop: readonly P[] } {
  const missing: WantedPod[] = [];
  const keep = new Set<P>();
  for (const wish of wanted) {
    const found = pods.find(
      (pod) =>
        !keep.has(pod) &&
        !pod.terminating &&
        groupOf(pod.parts.wanted) === groupOf(wish) &&
        pod.parts.wanted.revision === wish.revision,
    );
    if (found) keep.add(found);
    else missing.push(wish);
  }
  const groupsMissing = new Set(missing.map(groupOf));
  const groupsWanted = new Set(wanted.map(groupOf));
  const stop = pods
    .filter((pod) => !keep.has(pod) && !pod.terminating)
    .filter((pod) => {
      const group = groupOf(pod.parts.wanted);
      if (pod.parts.wanted.replica === undefined || !groupsWanted.has(group)) return true;
      const successors = [...keep].filter((other) => groupOf(other.parts.wanted) === group);
      return !groupsMissing.has(group) && successors.every((other) => other.ready);
    });
  return { missing, stop };
}
