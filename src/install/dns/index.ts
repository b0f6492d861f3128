// A cluster's own DNS, told to ask the mesh's for its names: found, edited, renewed, taken out again, and questioned.
// Absent on purpose: the answers themselves (the room dns), and anything that restarts or writes unless asked to.
export { type Answered, askDns } from "./ask.ts";
export type { Change as DnsChange } from "./change.ts";
export { type ClusterDns, findClusterDns, findMeshDns, type MeshDns } from "./cluster-dns.ts";
export { lineDiff } from "./diff.ts";
export { examineDns } from "./doctor/doctor.ts";
export { absoluteName, type DoctorWish } from "./doctor/facts.ts";
export type { Finding } from "./doctor/finding.ts";
export { type Form, forms, guideConfigMap } from "./forms.ts";
export {
  type DnsDeps,
  type DnsInstallWish,
  type DnsRemoveWish,
  type DnsResult,
  installClusterDns,
  removeClusterDns,
  type Written,
} from "./install.ts";
export type { Loading } from "./loading.ts";
export { type DnsStatus, type DomainState, statusOfClusterDns, type TargetStatus } from "./status.ts";
export { formatPlace, type Target as DnsTarget } from "./targets.ts";
export { formatVersion, parseVersion, type Version } from "./version.ts";
