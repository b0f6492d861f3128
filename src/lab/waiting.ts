import { egressName, ingressName } from "./profile.ts";

/** A pod, or what should be one, that is not ready. */
export interface Unready {
  readonly cluster: string;
  /** Its Deployment's name, or its own when it stands alone. */
  readonly workload: string;
  readonly why: string;
  /** Whether something went wrong, as against what every pod goes through while it starts. */
  readonly failing: boolean;
}

/** One line for a person: `cluster1: gateway, sleep · cluster2: gateway, httpbin: starting`; and what goes wrong. */
export function waitingLine(unready: readonly Unready[]): string {
  const failing = unready.filter((one) => one.failing);
  const troubles = failing.map(({ cluster, workload, why }) => `${cluster}: ${callName(workload)}: ${firstLine(why)}`);
  const names = new Map<string, Set<string>>();
  for (const { cluster, workload, failing } of unready) {
    if (failing) continue;
    names.set(cluster, (names.get(cluster) ?? new Set()).add(callName(workload)));
  }
  const starting = [...names].map(([cluster, workloads]) => `${cluster}: ${[...workloads].join(", ")}`).join(" · ");
  return [...new Set(troubles), ...(starting === "" ? [] : [`${starting}: starting`])].join(" · ");
}

function callName(workload: string): string {
  if (workload === ingressName) return "gateway";
  return workload === egressName ? "egress gateway" : workload;
}

function firstLine(text: string): string {
  const line = text.split("\n")[0]!;
  return line.length > 200 ? `${line.slice(0, 199)}…` : line;
}
