// A Kubernetes API server, as one caller sees it: access, requests, lists, watches that never give up.
// Absent on purpose: what objects mean (resources reads them), and anything that decides what a cluster should hold.
export { type AccessWish, accountFolder, loadAccess } from "./access.ts";
export { ObjectApi, type ObjectApiOptions, type ObjectName, type Right, type ServedKind } from "./apply.ts";
export { createKubeClient, type KubeClient, type KubeClientOptions, type KubeRequest } from "./client.ts";
export { type KubeAccess, readKubeconfig } from "./kubeconfig.ts";
export { type Leader, type LeaderOptions, type Leadership, type Mandate, startLeader } from "./leader.ts";
export { type LeaseTimes, leaseTimes } from "./lease.ts";
export { type Collection, collectionPath, type KubeObject, objectName } from "./object.ts";
export { type Change, type ReflectorHealth, type ReflectorSink, startReflector } from "./reflector.ts";
export { KubeRefusal } from "./refusal.ts";
export { type Served, servedVersion } from "./served.ts";
