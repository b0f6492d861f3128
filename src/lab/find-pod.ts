import { Failure } from "../base/index.ts";
import { type LabPod, proxyContainer } from "./pod.ts";
import type { TargetPlace } from "./protocol.ts";
import type { LabTarget } from "./types.ts";

/** The pod that a person means: by its name, its Deployment's, or a gateway's without the system's prefix. */
export function findPod(pods: readonly LabPod[], target: Pick<LabTarget, "workload" | "namespace">, cluster: string) {
  const found = findPods(pods, target, cluster);
  return found.find((pod) => pod.ready) ?? found.find((pod) => !pod.terminating) ?? found[0]!;
}

/** All pods of what a person means; at least one. */
export function findPods(
  pods: readonly LabPod[],
  { workload, namespace }: Pick<LabTarget, "workload" | "namespace">,
  cluster: string,
): readonly LabPod[] {
  const all = pods.filter((pod) => namespace === undefined || pod.parts.wanted.namespace === namespace);
  const named = (name: string) =>
    all.filter(
      ({ parts }) =>
        parts.name === name || parts.wanted.workload === name || `deploy/${parts.wanted.workload}` === name,
    );
  const others = [`isthmus-${workload}`, workload.replace(/^istio-/, "isthmus-")];
  const found = [workload, ...others].map(named).find((some) => some.length > 0) ?? [];
  const namespaces = new Set(found.map(({ parts }) => parts.wanted.namespace));
  if (namespaces.size > 1) {
    throw new Failure(
      "lab/workload",
      `"${workload}" is in namespaces ${[...namespaces].join(" and ")} of "${cluster}"`,
      {
        hint: "say which with -n",
      },
    );
  }
  if (found.length > 0) return found;
  const known = new Set(pods.map(({ parts: { wanted } }) => `${wanted.namespace}/${wanted.workload}`));
  throw new Failure("lab/workload", `there is no "${workload}" in cluster "${cluster}"`, {
    hint: known.size > 0 ? `there is ${[...known].join(", ")}, and controlplane` : "no pod runs there",
  });
}

/** Where commands for a container of this pod run; for the first one when none is named. */
export function placeIn(pod: LabPod, container: string | undefined): TargetPlace {
  const names = pod.containerNames();
  const chosen = container ?? names[0];
  if (chosen === undefined || !names.includes(chosen)) {
    throw new Failure("lab/container", `pod "${pod.parts.name}" has no container "${container}"`, {
      hint: `it has ${names.join(", ")}`,
    });
  }
  const { holder } = pod.parts.network;
  return {
    pod: pod.parts.name,
    namespace: pod.parts.wanted.namespace,
    container: chosen,
    ...(holder === undefined ? {} : { holder }),
    env: pod.environment(chosen === proxyContainer ? undefined : chosen),
    logFile: pod.parts.logFile(chosen),
    ...(pod.parts.proxy ? { admin: pod.parts.adminSocket } : {}),
  };
}
