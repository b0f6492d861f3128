import type { Pod } from "../resources/index.ts";
import type { Change, SortedMap } from "../values/index.ts";
import type { Workload } from "./mesh.ts";

const made = new WeakMap<Pod, Workload>();

/** The process behind a Pod. */
export function workloadOf(pod: Pod): Workload {
  let workload = made.get(pod);
  if (!workload) {
    const ports: Record<string, number> = {};
    for (const container of pod.spec.containers)
      for (const port of container.ports) if (port.name) ports[port.name] ??= port.containerPort;
    const ips = pod.status.podIPs.map(({ ip }) => ip as string);
    if (pod.status.podIP && !ips.includes(pod.status.podIP)) ips.unshift(pod.status.podIP);
    workload = Object.freeze({
      name: pod.metadata.name,
      namespace: pod.metadata.namespace,
      labels: pod.metadata.labels,
      serviceAccount: pod.spec.serviceAccountName,
      ips: Object.freeze(ips),
      ports: Object.freeze(ports),
      origin: pod.origin,
    });
    made.set(pod, workload);
  }
  return workload;
}

/** Workloads by `namespace/name` after Pods changed. What Pods report every few seconds is mostly nothing of ours. */
export function nextWorkloads(
  before: SortedMap<string, Workload>,
  pods: ReadonlyArray<Change<string, Pod>>,
): SortedMap<string, Workload> {
  const wanted = new Map<string, Workload | undefined>();
  for (const { before: pod } of pods) if (pod) wanted.set(keyOf(pod), undefined);
  for (const { after: pod } of pods) {
    if (!pod || pod.status.phase === "Succeeded" || pod.status.phase === "Failed") continue;
    const workload = workloadOf(pod);
    const known = before.get(keyOf(pod));
    wanted.set(keyOf(pod), known && JSON.stringify(known) === JSON.stringify(workload) ? known : workload);
  }
  return before.with(wanted);
}

const keyOf = ({ metadata }: Pod) => `${metadata.namespace}/${metadata.name}`;
