// The discovery protocol (xDS v3 over gRPC, aggregated), both ends, and gRPC itself for whoever else needs it.
// Absent on purpose: what to tell a proxy (it is handed a `Snapshot`), and what a proxy does with it.
export { type AdsClient, type AdsClientDeps, type AdsConnectionState, startAdsClient } from "./client.ts";
export type { Change, Interest, Received, Refusal } from "./client-state.ts";
export {
  type CallOptions,
  type ChannelOptions,
  type ClientStream,
  type GrpcChannel,
  openChannel,
} from "./grpc/channel.ts";
export type {
  CallerCertificate,
  ClientSecurity,
  ClientTlsMaterial,
  ExpectedServer,
  ServerSecurity,
  TlsMaterial,
} from "./grpc/credentials.ts";
export {
  type Caller,
  type GrpcListen,
  type GrpcServerOptions,
  type Handlers,
  type Implementation,
  implement,
  type ServerCall,
  type ServerStream,
  startGrpcServer,
} from "./grpc/server.ts";
export { type GrpcStatus, grpcFailure, grpcStatusOf } from "./grpc/status.ts";
export { type Receipt, Receipts, type RefusedResource, receiptState } from "./receipts.ts";
export {
  type Admission,
  type AdsConnection,
  type AdsLimits,
  type AdsServer,
  type AdsServerDeps,
  createAdsServer,
  type SnapshotSource,
} from "./server.ts";
