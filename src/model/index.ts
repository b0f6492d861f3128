// The mesh as facts: which services there are, who answers for them, how to reach them, what is suspicious about it.
// Absent on purpose: what a proxy runs (that is xds), and anything that waits or remembers beyond the mesh before.
export { byAge, compareText } from "./age.ts";
export { automaticAddresses, buildMesh } from "./build.ts";
export { cached } from "./cached.ts";
export { targetsOf } from "./check-routes.ts";
export { wantsAddress } from "./entries.ts";
export { type Finding, type FindingCode, findingCodes } from "./finding.ts";
export { gatewayKey } from "./gateway-key.ts";
export type { ForwardPolicy } from "./gateway-topology.ts";
export {
  credentialsOf,
  type GatewayPort,
  type GatewayServer,
  portsOf,
  serversOf,
} from "./gateways.ts";
export { type MeshInput, meshKinds } from "./input.ts";
export { hostnameOfService, tlsModeLabel } from "./kube-services.ts";
export { defaultMeshSettings, type Mesh, type MeshSettings, type Workload } from "./mesh.ts";
export { type NamedPort, type NameRecord, namesChanged, namesFor, namesOf } from "./names.ts";
export { resolveHost } from "./resolve-host.ts";
export {
  bookFor,
  changedRuleHosts,
  type MergedRule,
  type RuleBook,
  ruleFor,
  rulesAbout,
  type Subset,
  selectedCredentials,
} from "./rules.ts";
export type { KeyPair, TlsSecret, Trust } from "./secrets.ts";
export {
  type Egress,
  type Endpoint,
  isGlobal,
  namespaceOfGlobal,
  type Resolution,
  type Service,
  type ServicePort,
  type Visibility,
  visibleTo,
} from "./service.ts";
export { isAutomatic } from "./vips.ts";
export { appliesTo, routesHost, type SourceMatch, type VirtualRoutes } from "./virtual-services.ts";
