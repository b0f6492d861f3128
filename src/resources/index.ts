// What people write, read strictly: text to resources, or to everything that is wrong with it, each thing at its place.
// Absent on purpose: files, watching, and whatever takes two objects to judge (the model does that).
export { type Code, codes } from "./codes.ts";
export { type CustomKind, customKinds, customResourceDefinition } from "./crd.ts";
export { cutObjects } from "./cut.ts";
export { type DecodeContext, type Decoded, decodeResource } from "./decode.ts";
export { type EgressWish, egressAnnotation, egressWish } from "./egress.ts";
export { type Frozen, freeze } from "./frozen.ts";
export { type GatewayHost, proxyProtocol } from "./istio/gateway.ts";
export { type HealthCheck, healthCheck } from "./istio/health-check.ts";
export type { RouteHost } from "./istio/virtual-service.ts";
export type { EndpointAddress } from "./istio/workload-entry.ts";
export { type Kind, type KindRow, kindNames, kindOf, kinds } from "./kinds.ts";
export { plainObjects } from "./plain.ts";
export { type ReadContext, type Reading, readResources } from "./read.ts";
export {
  type Container,
  type Deployment,
  type DestinationRule,
  type DestinationRuleSpec,
  type EndpointSlice,
  type Gateway,
  type GatewaySpec,
  type HttpMatch,
  type HttpRule,
  type Metadata,
  type Namespace,
  type Node,
  type Pod,
  type PodSpec,
  type Resource,
  type ResourceOf,
  resourceKey,
  type Secret,
  type Service,
  type ServiceAccount,
  type ServiceEntry,
  type ServiceEntrySpec,
  type StringMatch,
  type TcpRule,
  type TlsRule,
  type TrafficPolicy,
  type VirtualService,
  type VirtualServiceSpec,
  type WorkloadEntry,
  type WorkloadEntrySpec,
} from "./resource.ts";
export { Sealed } from "./sealed.ts";
export { type FileText, type Validation, validateFiles } from "./validate.ts";
export { formatPath, formatViolation, type Violation } from "./violation.ts";
export { nearest } from "./wording.ts";
export { writeManifest } from "./write.ts";
export { documents, type Place, type YamlDocument, type YamlLimits, yamlLimits } from "./yaml.ts";
