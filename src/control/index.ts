// A control plane, put together: resources to mesh to what proxies run and names answer, beside the CA; its admin API.
// Absent on purpose: any part's own work. What is decided is decided in the rooms that this one joins.

export { defaultRevision } from "./cluster/names.ts";
export { type ControlConfig, type ControlDeps, type KubernetesConfig, serverNames } from "./config.ts";
export { type ControlPlane, startControlPlane } from "./control-plane.ts";
export type { StatusLine } from "./status.ts";
