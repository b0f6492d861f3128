// The data plane. Embedded: listeners, chains, clusters and routes as Envoy's messages say them, and nothing of the mesh;
// or an unmodified Envoy with an agent beside it.
// Absent on purpose: active health checks, filters that run foreign code, UDP, and any name of a cluster that a caller
// could choose.
export { type AgentConfig, startAgent } from "./agent/agent.ts";
export { type AppProber, type AppProbers, readAppProbers } from "./agent/app-probers.ts";
export { type Applied, applyCapture } from "./agent/apply-capture.ts";
export {
  type CaptureOptions,
  captureChains,
  captureRules,
  captureUpdate,
  countRules,
  proxyUid,
} from "./agent/capture.ts";
export { type EnvoyAgentConfig, startEnvoyAgent } from "./agent/envoy/agent.ts";
export { type EnvoyBinary, examineEnvoy, installedEnvoy, oldestEnvoy } from "./agent/envoy/binary.ts";
export { type InstalledEnvoy, type InstallOptions, installEnvoy } from "./agent/envoy/install.ts";
export { type EnvoyPlaces, envoyCache, envoyPlaces, locateEnvoy } from "./agent/envoy/locate.ts";
export type { NodeFacts } from "./agent/node.ts";
export type { PodServers } from "./agent/pod-server.ts";
export { certificateSecret, readSecret, type Secret, type Secrets, trustSecret } from "./config/secret.ts";
export {
  ConfigStore,
  type DumpedResource,
  type Incoming,
  type ProxyConfig,
  type RefusedResource,
  type Wanted,
} from "./config/store.ts";
export type { ResolveDestination } from "./explicit-listener.ts";
export { loadOriginalDestination, type OriginalDestination } from "./l4/original-dst.ts";
export { type ClusterView, type EmbeddedProxy, type ListenerView, type ProxyDeps, startProxy } from "./proxy.ts";
export type { ResolveName } from "./upstream/resolve.ts";
export { type WorkerProgram, workerProgram } from "./workers/fork.ts";
