// Clusters on one machine, as real processes: pods from manifests, gateways, control planes, and the commands on them.
// Absent on purpose: what a mesh is. The lab starts the same programs that run anywhere, and plays Kubernetes to them.
import type { demo as demoNow } from "./demo.ts";

/** Loaded when it is wanted: the commands on a lab that runs are to be quick. */
export const demo: typeof demoNow = async (options) => (await import("./demo.ts")).demo(options);
export { labApply, labDelete, labDown, labExec, labLogs, labNames, labStatus, labUp } from "./lab.ts";
export { progressText } from "./progress-text.ts";
export {
  type ChosenMode,
  type ClusterStatus,
  type DataPlane,
  dataPlanes,
  type LabCluster,
  type LabMode,
  type LabProgress,
  type LabStatus,
  type LabTarget,
  type LabUpOptions,
  labModes,
  type PodPhase,
  type PodStatus,
} from "./types.ts";
