import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import {
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "../../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { FilterChainSchema } from "../../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import { FileAccessLogSchema } from "../../proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { RouterSchema } from "../../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManager_ForwardClientCertDetails,
  HttpConnectionManagerSchema,
} from "../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "../../proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { pack, typeUrls } from "../../proto/index.ts";
import type { SocketAddress } from "../../values/index.ts";
import type { Incoming } from "../config/store.ts";

type Init<D extends DescMessage> = Exclude<MessageInitShape<D>, { $typeName: string }>;
export type ChainInit = Init<typeof FilterChainSchema>;

export function any<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Any {
  return pack(schema, create(schema, message));
}

const encode = <D extends DescMessage>(schema: D, name: string, message: MessageInitShape<D>): Incoming => ({
  name,
  version: "1",
  bytes: toBinary(schema, create(schema, message)),
});

export const milliseconds = (ms: number): Duration =>
  create(DurationSchema, { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 });

export const socketAddress = (address: string, port: number) => ({
  address: {
    case: "socketAddress" as const,
    value: { address, portSpecifier: { case: "portValue" as const, value: port } },
  },
});

export function listener(name: string, message: Init<typeof ListenerSchema>): Incoming {
  return encode(ListenerSchema, name, { name, address: socketAddress("127.0.0.1", 0), ...message });
}

export const tcpProxy = (cluster: string, more: Init<typeof TcpProxySchema> = {}) => ({
  name: "envoy.filters.network.tcp_proxy",
  configType: {
    case: "typedConfig" as const,
    value: any(TcpProxySchema, { statPrefix: cluster, clusterSpecifier: { case: "cluster", value: cluster }, ...more }),
  },
});

export const httpManager = (routes: string) => ({
  name: "envoy.filters.network.http_connection_manager",
  configType: {
    case: "typedConfig" as const,
    value: any(HttpConnectionManagerSchema, {
      statPrefix: routes,
      // What a sidecar's inbound listener does: tell the server who called.
      forwardClientCertDetails: HttpConnectionManager_ForwardClientCertDetails.APPEND_FORWARD,
      setCurrentClientCertDetails: { subject: true, uri: true, dns: true },
      routeSpecifier: {
        case: "rds",
        value: { routeConfigName: routes, configSource: { configSourceSpecifier: { case: "ads", value: {} } } },
      },
      httpFilters: [
        { name: "envoy.filters.http.router", configType: { case: "typedConfig", value: any(RouterSchema, {}) } },
      ],
    }),
  },
});

/** All requests to one cluster. */
export function routes(name: string, cluster: string): Incoming {
  return encode(RouteConfigurationSchema, name, {
    name,
    virtualHosts: [
      {
        name: "all",
        domains: ["*"],
        routes: [
          {
            name: "default",
            match: { pathSpecifier: { case: "prefix", value: "/" } },
            action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: cluster } } },
          },
        ],
      },
    ],
  });
}

export const lbEndpoint = ({ ip, port }: { readonly ip: string; readonly port: number }) => ({
  hostIdentifier: { case: "endpoint" as const, value: { address: socketAddress(ip, port) } },
});

export function staticCluster(
  name: string,
  endpoints: readonly SocketAddress[],
  more: Init<typeof ClusterSchema> = {},
): Incoming {
  return encode(ClusterSchema, name, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: milliseconds(2000),
    loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: endpoints.map(lbEndpoint) }] },
    ...more,
  });
}

export function edsCluster(name: string, more: Init<typeof ClusterSchema> = {}): Incoming {
  return encode(ClusterSchema, name, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: { configSourceSpecifier: { case: "ads", value: {} } } },
    ...more,
  });
}

export function dnsCluster(name: string, host: string, port: number, refreshMs: number): Incoming {
  return encode(ClusterSchema, name, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STRICT_DNS },
    dnsLookupFamily: Cluster_DnsLookupFamily.V4_ONLY,
    dnsRefreshRate: milliseconds(refreshMs),
    loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [lbEndpoint({ ip: host, port })] }] },
  });
}

export function originalDestinationCluster(name: string): Incoming {
  return encode(ClusterSchema, name, {
    name,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
  });
}

export function endpoints(name: string, addresses: readonly SocketAddress[]): Incoming {
  return encode(ClusterLoadAssignmentSchema, name, {
    clusterName: name,
    endpoints: addresses.length > 0 ? [{ lbEndpoints: addresses.map(lbEndpoint) }] : [],
  });
}

/** What a server's chain shows and asks for: SDS `default` and `ROOTCA`. */
export const serverTls = (options: { readonly alpn?: readonly string[]; readonly required?: boolean } = {}) => ({
  name: "envoy.transport_sockets.tls",
  configType: {
    case: "typedConfig" as const,
    value: any(DownstreamTlsContextSchema, {
      requireClientCertificate: options.required ?? true,
      commonTlsContext: {
        alpnProtocols: [...(options.alpn ?? [])],
        tlsCertificateSdsSecretConfigs: [{ name: "default" }],
        validationContextType: {
          case: "combinedValidationContext",
          value: { validationContextSdsSecretConfig: { name: "ROOTCA" }, defaultValidationContext: {} },
        },
      },
    }),
  },
});

export const clientTls = (options: {
  readonly sni: string;
  readonly alpn?: readonly string[];
  readonly expect?: readonly string[];
}) => ({
  name: "envoy.transport_sockets.tls",
  configType: {
    case: "typedConfig" as const,
    value: any(UpstreamTlsContextSchema, {
      sni: options.sni,
      commonTlsContext: {
        alpnProtocols: [...(options.alpn ?? ["istio"])],
        tlsCertificateSdsSecretConfigs: [{ name: "default" }],
        validationContextType: {
          case: "combinedValidationContext",
          value: {
            validationContextSdsSecretConfig: { name: "ROOTCA" },
            defaultValidationContext: {
              matchSubjectAltNames: (options.expect ?? []).map((value) => ({
                matchPattern: value.endsWith("/")
                  ? { case: "prefix" as const, value }
                  : { case: "exact" as const, value },
              })),
            },
          },
        },
      },
    }),
  },
});

export const inspectors = (
  ...names: ReadonlyArray<"tls_inspector" | "http_inspector" | "proxy_protocol" | "original_dst">
) => names.map((name) => ({ name: `envoy.filters.listener.${name}` }));

export const fileLog = (path: string, fields: Readonly<Record<string, string>>) => ({
  name: "envoy.access_loggers.file",
  configType: {
    case: "typedConfig" as const,
    value: any(FileAccessLogSchema, {
      path,
      accessLogFormat: { case: "logFormat", value: { format: { case: "jsonFormat", value: { ...fields } } } },
    }),
  },
});

export { typeUrls };
