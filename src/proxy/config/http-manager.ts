import type { AccessLog } from "../../proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import { CorsSchema } from "../../proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { FilterConfigSchema as GrpcStatsSchema } from "../../proto/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { RouterSchema } from "../../proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import type {
  HttpConnectionManager,
  HttpFilter,
} from "../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { type AccessLogConfig, readAccessLogs } from "./access-log.ts";
import { readFault } from "./http-filters.ts";
import { type Place, readAny, readDuration } from "./reading.ts";
import type { Fault, RouteTable } from "./route.ts";
import { readRouteConfiguration } from "./route-table.ts";

/** How HTTP is served on a filter chain. Durations are milliseconds, 0 for none. */
export interface HttpManager {
  readonly statPrefix: string;
  readonly codec: "auto" | "http1" | "http2";
  readonly routes:
    | { readonly kind: "rds"; readonly name: string }
    | { readonly kind: "inline"; readonly table: RouteTable };
  readonly accessLogs: readonly AccessLogConfig[];
  /** The `server` field of responses. */
  readonly server: { readonly name: string; readonly mode: "overwrite" | "if-absent" | "pass" };
  readonly useRemoteAddress: boolean;
  readonly skipXffAppend: boolean;
  readonly requestId: { readonly generate: boolean; readonly preserveExternal: boolean; readonly inResponse: boolean };
  readonly clientCertificate: {
    readonly mode: "sanitize" | "forward-only" | "append-forward" | "sanitize-set" | "always-forward-only";
    readonly subject: boolean;
    readonly dns: boolean;
    readonly uri: boolean;
  };
  readonly normalizePath: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: "keep" | "reject" | "redirect" | "unescape";
  readonly stripPort: "no" | "matching" | "any";
  readonly stripTrailingDot: boolean;
  /** Protocols that a request may change to, lower case. */
  readonly upgrades: ReadonlySet<string>;
  readonly maxHeadBytes: number;
  readonly maxStreams: number;
  readonly maxRequestsPerConnection: number | undefined;
  readonly streamIdleTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** The fault that every request meets, whatever its route. */
  readonly fault: Fault | undefined;
}

/** Reads the configuration of an HTTP connection manager; undefined after refusals. */
export function readHttpManager(message: HttpConnectionManager, place: Place): HttpManager | undefined {
  const codec = (["auto", "http1", "http2", undefined] as const)[message.codecType];
  if (!codec) place.field("codec_type").refuse("HTTP3 is not known; use AUTO, HTTP1 or HTTP2");
  const routes = readRoutes(message, place);
  const fault = readFilters(message.httpFilters, place.field("http_filters"));
  const unknown = [
    ["original_ip_detection_extensions", message.originalIpDetectionExtensions.length > 0],
    ["early_header_mutation_extensions", message.earlyHeaderMutationExtensions.length > 0],
    ["request_id_extension", message.requestIdExtension?.typedConfig !== undefined],
    ["local_reply_config", message.localReplyConfig !== undefined],
    ["path_normalization_options", message.pathNormalizationOptions !== undefined],
    ["typed_header_validation_config", message.typedHeaderValidationConfig !== undefined],
    ["proxy_status_config", message.proxyStatusConfig !== undefined],
    ["xff_num_trusted_hops", message.xffNumTrustedHops > 0],
    ["via", message.via !== ""],
  ] as const;
  for (const [name, there] of unknown) if (there) place.field(name).refuse("is not known");
  const certificate = (["sanitize", "forward-only", "append-forward", "sanitize-set", "always-forward-only"] as const)[
    message.forwardClientCertDetails
  ];
  const details = message.setCurrentClientCertDetails;
  if (details?.cert || details?.chain)
    place.field("set_current_client_cert_details").refuse("cert and chain are not known; use subject, dns and uri");
  const upgrades = new Set<string>();
  for (const [index, upgrade] of message.upgradeConfigs.entries()) {
    const at = place.field("upgrade_configs").item(index);
    const type = upgrade.upgradeType.toLowerCase();
    if (type === "connect") at.field("upgrade_type").refuse("CONNECT is not known here; use a TCP listener");
    if (upgrade.filters.length > 0) at.field("filters").refuse("are not known");
    if (upgrade.enabled ?? true) upgrades.add(type);
  }
  const common = message.commonHttpProtocolOptions;
  const maxHeadKb = message.maxRequestHeadersKb ?? 60;
  const accessLogs = readAccessLogs(message.accessLog satisfies readonly AccessLog[], place.field("access_log"));
  const time = {
    streamIdleTimeoutMs: readDuration(message.streamIdleTimeout, 300_000, place.field("stream_idle_timeout")),
    requestTimeoutMs: readDuration(message.requestTimeout, 0, place.field("request_timeout")),
    headersTimeoutMs:
      readDuration(message.requestHeadersTimeout, 10_000, place.field("request_headers_timeout")) || 10_000,
    idleTimeoutMs: readDuration(
      common?.idleTimeout,
      3_600_000,
      place.field("common_http_protocol_options").field("idle_timeout"),
    ),
  };
  if (!codec || !routes || !certificate) return undefined;
  return {
    statPrefix: message.statPrefix,
    codec,
    routes,
    accessLogs,
    server: {
      name: message.serverName || "isthmus",
      mode: (["overwrite", "if-absent", "pass"] as const)[message.serverHeaderTransformation] ?? "overwrite",
    },
    useRemoteAddress: message.useRemoteAddress ?? false,
    skipXffAppend: message.skipXffAppend,
    requestId: {
      generate: message.generateRequestId ?? true,
      preserveExternal: message.preserveExternalRequestId,
      inResponse: message.alwaysSetRequestIdInResponse,
    },
    clientCertificate: {
      mode: certificate,
      subject: details?.subject ?? false,
      dns: details?.dns ?? false,
      uri: details?.uri ?? false,
    },
    normalizePath: message.normalizePath ?? true,
    mergeSlashes: message.mergeSlashes,
    escapedSlashes:
      (["keep", "keep", "reject", "redirect", "unescape"] as const)[message.pathWithEscapedSlashesAction] ?? "keep",
    stripPort: message.stripMatchingHostPort ? "matching" : message.stripPortMode.value ? "any" : "no",
    stripTrailingDot: message.stripTrailingHostDot,
    upgrades,
    maxHeadBytes: Math.min(Math.max(1, maxHeadKb), 96) * 1024,
    maxStreams: Math.min(message.http2ProtocolOptions?.maxConcurrentStreams ?? 100, 1000),
    maxRequestsPerConnection: common?.maxRequestsPerConnection || undefined,
    ...time,
    fault,
  };
}

function readRoutes(message: HttpConnectionManager, place: Place): HttpManager["routes"] | undefined {
  const specifier = message.routeSpecifier;
  switch (specifier.case) {
    case "rds": {
      const name = specifier.value.routeConfigName;
      if (name === "") return place.field("rds").field("route_config_name").refuse("is missing");
      return { kind: "rds", name };
    }
    case "routeConfig": {
      const table = readRouteConfiguration(specifier.value, place.field("route_config"));
      return table && { kind: "inline", table };
    }
    default:
      return place.refuse(`${specifier.case ?? "no route specifier"} is not known; use rds or route_config`);
  }
}

function readFilters(filters: readonly HttpFilter[], place: Place): Fault | undefined {
  let fault: Fault | undefined;
  for (const [index, filter] of filters.entries()) {
    const at = place.item(index);
    if (filter.disabled) continue;
    const any = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
    const typed = at.field("typed_config");
    switch (any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1)) {
      case RouterSchema.typeName:
        if (index !== filters.length - 1) at.refuse("the router must be the last filter");
        break;
      case CorsSchema.typeName:
      case GrpcStatsSchema.typeName:
        break;
      case HTTPFaultSchema.typeName: {
        const read = readAny(any, HTTPFaultSchema, typed);
        if (read) fault = readFault(read, typed);
        break;
      }
      default:
        if (!filter.isOptional)
          typed.refuse(
            `"${any?.typeUrl ?? filter.name}" is not known; there are the cors, fault, grpc_stats and router filters`,
          );
    }
  }
  const last = filters.at(-1);
  const url = last?.configType.case === "typedConfig" ? last.configType.value.typeUrl : "";
  if (!url.endsWith(RouterSchema.typeName)) place.refuse("must end with the router");
  return fault;
}
