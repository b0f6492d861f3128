import type { Pod } from "../resources/index.ts";
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
