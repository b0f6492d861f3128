import { createHash } from "node:crypto";
import type { Container, Deployment, Namespace, Pod, PodSpec } from "../resources/index.ts";
import type { Labels } from "../values/index.ts";

/** A pod that ought to run. Two wishes with one `revision` are the same pod. */
export interface WantedPod {
  readonly namespace: string;
  /** The Deployment's name and template for replicas, the pod's own name otherwise. */
  readonly workload: string;
  /** Which of the Deployment's replicas, from 0; undefined for a pod that stands alone. */
  readonly replica: number | undefined;
  readonly revision: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly serviceAccount: string;
  readonly containers: readonly Container[];
  readonly injected: boolean;
  readonly graceMs: number;
}

/** The pods that these manifests ask for. */
export function wantedPods(options: {
  readonly deployments: Iterable<Deployment>;
  readonly pods: Iterable<Pod>;
  readonly namespaces: ReadonlyMap<string, Namespace>;
  /** Namespace and name of Deployments to how many pods they have, where somebody said so beside the manifest. */
  readonly scales?: ReadonlyMap<string, number>;
}): readonly WantedPod[] {
  const wanted: WantedPod[] = [];
  for (const { metadata, spec } of options.deployments) {
    const { labels, annotations } = spec.template.metadata;
    const base = wish(metadata.namespace, metadata.name, { labels, annotations, spec: spec.template.spec }, options);
    const replicas = options.scales?.get(`${metadata.namespace}/${metadata.name}`) ?? spec.replicas;
    for (let replica = 0; replica < replicas; replica++) wanted.push({ ...base, replica });
  }
  for (const { metadata, spec } of options.pods) {
    const { labels, annotations } = metadata;
    wanted.push(wish(metadata.namespace, metadata.name, { labels, annotations, spec }, options));
  }
  return wanted;
}

function wish(
  namespace: string,
  workload: string,
  template: { readonly labels: Labels; readonly annotations: Labels; readonly spec: PodSpec },
  { namespaces }: { readonly namespaces: ReadonlyMap<string, Namespace> },
): WantedPod {
  const { labels, annotations, spec } = template;
  const injected = wantsSidecar(namespaces.get(namespace)?.metadata.labels ?? {}, template);
  const revision = createHash("sha256").update(JSON.stringify({ labels, annotations, spec, injected })).digest("hex");
  return {
    namespace,
    workload,
    replica: undefined,
    revision,
    labels,
    annotations,
    serviceAccount: spec.serviceAccountName,
    containers: spec.containers,
    injected,
    graceMs: spec.terminationGracePeriodSeconds * 1000,
  };
}

/** A pod's own word goes before its namespace's: label or annotation `sidecar.istio.io/inject`. */
export function wantsSidecar(
  namespaceLabels: Labels,
  pod: { readonly labels: Labels; readonly annotations: Labels; readonly spec: PodSpec },
): boolean {
  const key = "sidecar.istio.io/inject";
  const own = pod.labels[key] ?? pod.annotations[key];
  if (pod.spec.hostNetwork) return false;
  if (own !== undefined) return own === "true";
  return namespaceLabels["istio-injection"] === "enabled";
}

/** A name in Kubernetes' manner: the Deployment, its template, and which of its pods. Vowels cannot make words. */
export function podName(wanted: WantedPod, random: () => number): string {
  if (wanted.replica === undefined) return wanted.workload;
  const letters = "bcdfghjklmnpqrstvwxz2456789";
  const suffix = Array.from({ length: 5 }, () => letters[Math.floor(random() * letters.length)]).join("");
  const template = wanted.revision.slice(0, 9);
  return `${wanted.workload.slice(0, 63 - 16)}-${template}-${suffix}`;
}

/** Ports of a list annotation: `traffic.sidecar.istio.io/excludeOutboundPorts: "3306,6379"`. What is no port is left out. */
export function portList(text: string | undefined): readonly number[] {
  return (text ?? "")
    .split(",")
    .map((part) => Number(part.trim()))
    .filter((port) => Number.isInteger(port) && port >= 1 && port <= 65535);
}
