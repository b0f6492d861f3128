import { expect, test } from "vitest";
import { planPods } from "./pod-plan.ts";
import type { WantedPod } from "./workloads.ts";

const wish = (revision: string, replica: number | undefined, workload = "web") =>
  ({ namespace: "foo", workload, revision, replica }) as WantedPod;
const pod = (wanted: WantedPod, ready = true, terminating = false) => ({ parts: { wanted }, ready, terminating });

const old = wish("1", 0);
const fresh = wish("2", 0);
const rows = [
  { it: "nothing is done where all is there", wanted: [old], pods: [pod(old)], missing: 0, stop: [] },
  { it: "a new revision is started, and the old one stays", wanted: [fresh], pods: [pod(old)], missing: 1, stop: [] },
  {
    it: "the old one stays while the new one is not ready",
    wanted: [fresh],
    pods: [pod(old), pod(fresh, false)],
    missing: 0,
    stop: [],
  },
  { it: "the old one goes when it is", wanted: [fresh], pods: [pod(old), pod(fresh)], missing: 0, stop: [0] },
  { it: "a replica too many goes", wanted: [old], pods: [pod(old), pod(wish("1", 1))], missing: 0, stop: [1] },
  { it: "what nobody wants any more goes at once", wanted: [], pods: [pod(old, false)], missing: 0, stop: [0] },
  { it: "one that goes already is no replica", wanted: [old], pods: [pod(old, true, true)], missing: 1, stop: [] },
  {
    it: "a pod that stands alone goes before the one of its name comes",
    wanted: [wish("2", undefined)],
    pods: [pod(wish("1", undefined))],
    missing: 1,
    stop: [0],
  },
];
for (const { it, wanted, pods, missing, stop } of rows) {
  test(it, () => {
    const plan = planPods(wanted, pods);
    expect(plan.missing.length).toBe(missing);
    expect(plan.stop.map((one) => pods.indexOf(one))).toEqual(stop);
  });
}
