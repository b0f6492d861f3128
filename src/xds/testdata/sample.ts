import { readFileSync } from "node:fs";
import { create, createRegistry, fromBinary, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { buildMesh, defaultMeshSettings, type Mesh, type MeshInput, type MeshSettings } from "../../model/index.ts";
import { ClusterSchema } from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { ClusterLoadAssignmentSchema } from "../../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "../../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import { FileAccessLogSchema } from "../../proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { DnsClusterSchema } from "../../proto/gen/envoy/extensions/clusters/dns/v3/dns_cluster_pb.js";
import { CorsPolicySchema, CorsSchema } from "../../proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RouterSchema } from "../../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpInspectorSchema } from "../../proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { ProxyProtocolSchema } from "../../proto/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { TlsInspectorSchema } from "../../proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { HttpConnectionManagerSchema } from "../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../../proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { PreviousHostsPredicateSchema } from "../../proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "../../proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { RawBufferSchema } from "../../proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "../../proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { NameTableSchema } from "../../proto/gen/isthmus/nds/v1/nds_pb.js";
import { type Snapshot, typeUrls, type Versioned } from "../../proto/index.ts";
import { kindNames, type Resource, readResources } from "../../resources/index.ts";
import { type ProxyNode, readNode } from "../node.ts";

const registry = createRegistry(
  CorsPolicySchema,
  CorsSchema,
  DnsClusterSchema,
  DownstreamTlsContextSchema,
  FileAccessLogSchema,
  HTTPFaultSchema,
  HttpConnectionManagerSchema,
  HttpInspectorSchema,
  HttpProtocolOptionsSchema,
  OriginalDstSchema,
  PreviousHostsPredicateSchema,
  PreviousPrioritiesConfigSchema,
  ProxyProtocolSchema,
  ProxyProtocolUpstreamTransportSchema,
  RawBufferSchema,
  RouteConfigurationSchema,
  RouterSchema,
  TcpProxySchema,
  TlsInspectorSchema,
  UpstreamTlsContextSchema,
);

export const settings: MeshSettings = Object.freeze({ cluster: "cluster1", ...defaultMeshSettings });

/** Resources as a store would hold them. */
export function viewOf(resources: readonly Resource[]): MeshInput {
  const view = Object.fromEntries(kindNames.map((kind) => [kind, new Map<string, Resource>()]));
  for (const one of resources) view[one.kind]!.set(`${one.kind}/${one.metadata.namespace}/${one.metadata.name}`, one);
  return view as unknown as MeshInput;
}

/** Text to resources; throws when anything in it is wrong. */
export function resourcesOf(text: string, file = "in.yaml"): readonly Resource[] {
  const { resources, violations } = readResources(text, { cluster: "cluster1", file, defaultNamespace: "default" });
  if (violations.some((one) => one.severity === "error")) throw new Error(JSON.stringify(violations, null, 2));
  return resources;
}

export function meshOf(text: string, changes: Partial<MeshSettings> = {}): Mesh {
  return buildMesh({ view: viewOf(resourcesOf(text)), settings: { ...settings, ...changes } });
}

/** A node as a proxy would introduce itself; throws when it would be refused. */
export function nodeOf(id: string, metadata: JsonObject = {}): ProxyNode {
  const read = readNode(create(NodeSchema, { id, metadata }));
  if (!read.ok) throw new Error(read.reason);
  return read.node;
}

const schemas = {
  [typeUrls.cluster]: ClusterSchema,
  [typeUrls.endpoints]: ClusterLoadAssignmentSchema,
  [typeUrls.listener]: ListenerSchema,
  [typeUrls.route]: RouteConfigurationSchema,
  [typeUrls.names]: NameTableSchema,
} as const;

/** A resource as plain data, with everything inside it unpacked. */
export function plain(type: keyof typeof schemas, { bytes }: Versioned): JsonValue {
  const schema = schemas[type];
  return brief(toJson(schema, fromBinary(schema, bytes), { registry }));
}

/** What is the same everywhere, in a word: the format of the access log, and where secrets come from. */
function brief(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(brief);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => {
      if (key === "jsonFormat") return [key, `as ${(part as JsonObject)["listener"] as string}`];
      if (key === "sdsConfig") return [key, "ads" in (part as JsonObject) ? "over the stream" : "from the agent"];
      return [key, brief(part)];
    }),
  );
}

/** A snapshot as plain data: type, then name. */
export function plainSnapshot(snapshot: Snapshot): Record<string, Record<string, JsonValue>> {
  const result: Record<string, Record<string, JsonValue>> = {};
  for (const [type, resources] of snapshot) {
    if (!(type in schemas) || resources.size === 0) continue;
    const short = Object.keys(typeUrls).find((key) => typeUrls[key as keyof typeof typeUrls] === type)!;
    result[short] = Object.fromEntries(
      [...resources]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, one]) => [name, plain(type as keyof typeof schemas, one)]),
    );
  }
  return result;
}

export function read(path: string): string {
  return readFileSync(path, "utf8");
}
