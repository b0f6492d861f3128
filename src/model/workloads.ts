import type { Node, Pod } from "../resources/index.ts";
import {
  type Change,
  formatLocality,
  type Labels,
  type Locality,
  nowhere,
  parseLocality,
  type SortedMap,
} from "../values/index.ts";
import { forwardPolicyOf } from "./gateway-topology.ts";
import { localityOf } from "./kube-services.ts";
import type { Workload } from "./mesh.ts";

const made = new WeakMap<Pod, Workload>();

/** A Pod says by it where it runs; dots may stand for the slashes that a label cannot hold. */
const localityLabel = "istio-locality";

function localityFrom(labels: Labels, machine: Node | undefined): Locality {
  const written = labels[localityLabel];
  return written === undefined ? localityOf(machine) : Object.freeze(parseLocality(written.replaceAll(".", "/")));
}

/** The process behind a Pod. */
function workloadOf(pod: Pod, machine: Node | undefined): Workload {
  const locality = localityFrom(pod.metadata.labels, machine);
  let workload = made.get(pod);
  if (!workload || formatLocality(workload.locality) !== formatLocality(locality)) {
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
      locality: formatLocality(locality) === "" ? nowhere : locality,
      ips: Object.freeze(ips),
      ports: Object.freeze(ports),
      forwardPolicy: forwardPolicyOf(pod.metadata.annotations),
      origin: pod.origin,
    });
    made.set(pod, workload);
  }
  return workload;
}

/**
 * Workloads by `namespace/name` after Pods or the machines under them changed. What Pods and machines report every few
 * seconds is mostly nothing of ours.
 */
export function nextWorkloads(
  before: SortedMap<string, Workload>,
  news: {
    readonly pods: ReadonlyArray<Change<string, Pod>>;
    readonly machines: ReadonlyArray<Change<string, Node>>;
    readonly allPods: Iterable<Pod>;
    readonly machine: (name: string) => Node | undefined;
  },
): SortedMap<string, Workload> {
  const wanted = new Map<string, Workload | undefined>();
  for (const { before: pod } of news.pods) if (pod) wanted.set(keyOf(pod), undefined);
  const take = (pod: Pod) => {
    if (pod.status.phase === "Succeeded" || pod.status.phase === "Failed") return;
    const workload = workloadOf(pod, pod.spec.nodeName === undefined ? undefined : news.machine(pod.spec.nodeName));
    const known = before.get(keyOf(pod));
    wanted.set(keyOf(pod), known && JSON.stringify(known) === JSON.stringify(workload) ? known : workload);
  };
  for (const { after } of news.pods) if (after) take(after);
  const moved = new Set(news.machines.filter(hasMoved).map((one) => (one.after ?? one.before)!.metadata.name));
  if (moved.size > 0) for (const pod of news.allPods) if (moved.has(pod.spec.nodeName ?? "")) take(pod);
  return before.with(wanted);
}

const hasMoved = ({ before, after }: Change<string, Node>) =>
  formatLocality(localityOf(before)) !== formatLocality(localityOf(after));

const keyOf = ({ metadata }: Pod) => `${metadata.namespace}/${metadata.name}`;
