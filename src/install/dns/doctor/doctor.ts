import type { Ask } from "../ask.ts";
import type { DnsDeps } from "../install.ts";
import * as cluster from "./cluster-checks.ts";
import { type DoctorWish, type Facts, gatherFacts } from "./facts.ts";
import type { Check, Finding } from "./finding.ts";
import * as name from "./name-checks.ts";

/** In the order of a query's way: the name, the pod, the node, the cluster's DNS, the mesh's. */
const checks: readonly Check[] = [
  name.spelling,
  name.known,
  name.askingPod,
  cluster.dnsRuns,
  cluster.readyThere,
  cluster.corefileAccepted,
  cluster.forwarding,
  cluster.loadedByPods,
  cluster.meshService,
  cluster.policies,
  name.asked,
];

/** All that keeps names of the mesh from resolving in a cluster, or may. */
export async function examineDns(
  wish: DoctorWish,
  deps: DnsDeps,
  ask?: Ask,
): Promise<{ readonly facts: Facts; readonly findings: readonly Finding[] }> {
  const facts = await gatherFacts(wish, deps, ask);
  return { facts, findings: findingsOf(facts) };
}

export function findingsOf(facts: Facts): readonly Finding[] {
  return checks.flatMap((check) => check(facts));
}
