import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { type Node, NodeSchema } from "../../../proto/gen/envoy/config/core/v3/base_pb.js";
import { parseIp, parseSocketAddress } from "../../../values/index.ts";
import { statTags } from "./stat-tags.ts";

/** Where Envoy's own admin interface is: on loopback, or a Unix socket. */
export type EnvoyAdmin = { readonly host: string; readonly port: number } | { readonly path: string };

export interface BootstrapOptions {
  readonly node: Node;
  /** The control plane, `host:port`. */
  readonly discovery: string;
  /** The name that its certificate must have. */
  readonly serverName: string;
  /** The agent's Unix socket, which hands out the certificate and the roots. */
  readonly secrets: string;
  readonly admin: EnvoyAdmin;
  /** The agent's Unix socket that tells what was kept, for as long as the control plane does not answer. */
  readonly kept?: string;
}

/** Connections from callers, all listeners together; more are turned away before they cost memory. */
const maxConnections = 50_000;
const typeOf = (name: string) => `type.googleapis.com/${name}`;
const version = { resourceApiVersion: "V3" } as const;
/** Waited for without end: a proxy that goes on with nothing would call itself ready. */
const patient = { initialFetchTimeout: "0s" } as const;

/**
 * All that Envoy cannot be told by the control plane, as the JSON of its bootstrap: who it is, where the control plane is
 * and how to know it, where its keys come from. Everything else comes over the one aggregated stream.
 */
export function envoyBootstrap(options: BootstrapOptions): JsonObject {
  const { node, discovery, serverName, secrets, admin, kept } = options;
  const { id, cluster, metadata } = toJson(NodeSchema, node) as JsonObject;
  const fromAds = { ads: {}, ...patient, ...version };
  return {
    node: { id: id!, cluster: cluster!, metadata: metadata ?? {} },
    admin: { address: adminAddress(admin), ignoreGlobalConnLimit: true },
    statsConfig: statTags,
    dynamicResources: {
      ldsConfig: fromAds,
      cdsConfig: fromAds,
      adsConfig: {
        apiType: "DELTA_GRPC",
        transportApiVersion: "V3",
        setNodeOnFirstMessageOnly: true,
        grpcServices: ["xds-grpc", ...(kept === undefined ? [] : ["kept-grpc"])].map((clusterName) => ({
          envoyGrpc: { clusterName },
        })),
      },
    },
    ...(kept === undefined ? {} : { layeredRuntime: { layers: [{ name: "kept", staticLayer: secondSource }] } }),
    staticResources: {
      clusters: [
        controlPlane({ discovery, serverName, connectTimeout: kept === undefined ? "5s" : "2s" }),
        agent("sds-grpc", secrets),
        ...(kept === undefined ? [] : [agent("kept-grpc", kept)]),
      ],
    },
    overloadManager: {
      resourceMonitors: [
        {
          name: "envoy.resource_monitors.global_downstream_max_connections",
          typedConfig: {
            "@type": typeOf("envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"),
            maxActiveDownstreamConnections: String(maxConnections),
          },
        },
      ],
    },
  };
}

/**
 * Envoy asks a second source when the first does not answer twice, and goes back to the first when the second hangs up,
 * only where it is told that it may.
 */
const secondSource: JsonObject = {
  "envoy.restart_features.xds_failover_support": true,
  "envoy.reloadable_features.xds_failover_to_primary_enabled": true,
};

function controlPlane(options: {
  readonly discovery: string;
  readonly serverName: string;
  readonly connectTimeout: string;
}): JsonObject {
  const { discovery, serverName, connectTimeout } = options;
  const at = discovery.lastIndexOf(":");
  const host = parseSocketAddress(discovery)?.ip ?? discovery.slice(0, at);
  return {
    name: "xds-grpc",
    type: parseIp(host) ? "STATIC" : "STRICT_DNS",
    connectTimeout,
    upstreamConnectionOptions: { tcpKeepalive: { keepaliveTime: 30, keepaliveInterval: 10, keepaliveProbes: 3 } },
    ...http2({ connectionKeepalive: { interval: "30s", timeout: "10s" } }),
    loadAssignment: endpointsOf("xds-grpc", { host, port: Number(discovery.slice(at + 1)) }),
    transportSocket: {
      name: "envoy.transport_sockets.tls",
      typedConfig: {
        "@type": typeOf("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
        sni: serverName,
        commonTlsContext: {
          tlsParams: { tlsMinimumProtocolVersion: "TLSv1_2", tlsMaximumProtocolVersion: "TLSv1_3" },
          alpnProtocols: ["h2"],
          tlsCertificateSdsSecretConfigs: [{ name: "default", sdsConfig: fromAgent }],
          combinedValidationContext: {
            defaultValidationContext: {
              matchTypedSubjectAltNames: [{ sanType: "DNS", matcher: { exact: serverName } }],
            },
            validationContextSdsSecretConfig: { name: "ROOTCA", sdsConfig: fromAgent },
          },
        },
      },
    },
  };
}

/** The same as the control plane says of every other TLS connection. */
const fromAgent: JsonObject = {
  apiConfigSource: {
    apiType: "GRPC",
    transportApiVersion: "V3",
    setNodeOnFirstMessageOnly: true,
    grpcServices: [{ envoyGrpc: { clusterName: "sds-grpc" } }],
  },
  ...patient,
  ...version,
};

function agent(name: string, path: string): JsonObject {
  return {
    name,
    type: "STATIC",
    connectTimeout: "5s",
    ...http2({}),
    loadAssignment: endpointsOf(name, { path }),
  };
}

function http2(options: JsonObject): JsonObject {
  return {
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typeOf("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
        explicitHttpConfig: { http2ProtocolOptions: options },
      },
    },
  };
}

function endpointsOf(clusterName: string, at: EnvoyAdmin): JsonObject {
  return { clusterName, endpoints: [{ lbEndpoints: [{ endpoint: { address: addressOf(at) } }] }] };
}

/** A socket that only this user can open: its paths change what the proxy does. */
function adminAddress(at: EnvoyAdmin): JsonObject {
  return "path" in at ? { pipe: { path: at.path, mode: 0o600 } } : addressOf(at);
}

function addressOf(at: EnvoyAdmin): JsonObject {
  return "path" in at ? { pipe: { path: at.path } } : { socketAddress: { address: at.host, portValue: at.port } };
}
