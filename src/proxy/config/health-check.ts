import { RequestMethod } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import type {
  HealthCheck,
  HealthCheck_HttpHealthCheck,
  HealthCheck_Payload,
} from "../../proto/gen/envoy/config/core/v3/health_check_pb.js";
import { CodecClientType } from "../../proto/gen/envoy/type/v3/http_pb.js";
import type { Int64Range } from "../../proto/gen/envoy/type/v3/range_pb.js";
import { headerChanges } from "./header-changes.ts";
import { type Place, readDuration } from "./reading.ts";
import type { HeaderChanges } from "./route.ts";

/** From the first to the last but one. */
export interface StatusRange {
  readonly start: number;
  readonly end: number;
}

/** What an endpoint is asked, and what it must answer. */
export type Question =
  | {
      readonly kind: "http";
      readonly protocol: "http1" | "http2";
      readonly method: string;
      readonly path: string;
      /** Empty for the name of the cluster. */
      readonly host: string;
      readonly headers: HeaderChanges;
      readonly expected: readonly StatusRange[];
      /** Not well, but counted like an endpoint that did not answer: it may be back at the next question. */
      readonly retriable: readonly StatusRange[];
    }
  | { readonly kind: "grpc"; readonly service: string; readonly authority: string; readonly headers: HeaderChanges }
  | { readonly kind: "tcp"; readonly send: Buffer | undefined; readonly receive: readonly Buffer[] };

/** How endpoints are asked whether they are well; times in milliseconds. */
export interface HealthRules {
  readonly question: Question;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly unhealthyIntervalMs: number;
  /** After the question that made it well, or unwell. */
  readonly healthyEdgeMs: number;
  readonly unhealthyEdgeMs: number;
  /** At most this much is waited longer, by chance; the first time, and between questions. */
  readonly firstJitterMs: number;
  readonly jitterMs: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  /** In place of the port that is called. */
  readonly port: number | undefined;
  /** The next question goes over the same connection. */
  readonly reuse: boolean;
}

/** One question, or none; undefined also after refusals. */
export function readHealthChecks(checks: readonly HealthCheck[], place: Place): HealthRules | undefined {
  const [message] = checks;
  if (!message) return undefined;
  if (checks.length > 1) place.refuse("there can be one only");
  const at = place.item(0);
  const question = readQuestion(message, at);
  const intervalMs = needed(message.interval, at.field("interval"));
  const timeoutMs = needed(message.timeout, at.field("timeout"));
  const unhealthyIntervalMs = readDuration(message.unhealthyInterval, intervalMs, at.field("unhealthy_interval"));
  for (const [name, value] of [
    ["unhealthy_threshold", message.unhealthyThreshold],
    ["healthy_threshold", message.healthyThreshold],
  ] as const)
    if (value === undefined || value === 0) at.field(name).refuse("must be at least 1");
  if (message.transportSocketMatchCriteria)
    at.field("transport_socket_match_criteria").refuse("is not known; the endpoint's own metadata chooses");
  const spread = (intervalMs * message.intervalJitterPercent) / 100;
  return (
    question && {
      question,
      timeoutMs,
      intervalMs,
      unhealthyIntervalMs,
      healthyEdgeMs: readDuration(message.healthyEdgeInterval, intervalMs, at.field("healthy_edge_interval")),
      unhealthyEdgeMs: readDuration(
        message.unhealthyEdgeInterval,
        unhealthyIntervalMs,
        at.field("unhealthy_edge_interval"),
      ),
      firstJitterMs: readDuration(message.initialJitter, 0, at.field("initial_jitter")),
      jitterMs: readDuration(message.intervalJitter, 0, at.field("interval_jitter")) + spread,
      unhealthyThreshold: message.unhealthyThreshold ?? 1,
      healthyThreshold: message.healthyThreshold ?? 1,
      port: message.altPort,
      reuse: message.reuseConnection ?? true,
    }
  );
}

function needed(duration: HealthCheck["interval"], place: Place): number {
  const ms = readDuration(duration, undefined, place);
  if (ms !== undefined && ms > 0) return ms;
  place.refuse("must be more than 0");
  return 1;
}

function readQuestion({ healthChecker: given }: HealthCheck, place: Place): Question | undefined {
  switch (given.case) {
    case "httpHealthCheck":
      return readHttp(given.value, place.field("http_health_check"));
    case "grpcHealthCheck": {
      const { serviceName, authority, initialMetadata } = given.value;
      const at = place.field("grpc_health_check");
      return {
        kind: "grpc",
        service: serviceName,
        authority,
        headers: headerChanges(initialMetadata, [], at, "request"),
      };
    }
    case "tcpHealthCheck": {
      const at = place.field("tcp_health_check");
      if (given.value.proxyProtocolConfig) at.field("proxy_protocol_config").refuse("is not known");
      return {
        kind: "tcp",
        send: given.value.send && bytesOf(given.value.send, at.field("send")),
        receive: given.value.receive.map((one, index) => bytesOf(one, at.field("receive").item(index))),
      };
    }
    default:
      return place.refuse(`${given.case ?? "an empty question"} is not known; there are http, grpc and tcp`);
  }
}

/** Text is hexadecimal. */
function bytesOf({ payload }: HealthCheck_Payload, place: Place): Buffer {
  if (payload.case === "binary") return Buffer.from(payload.value);
  const text = payload.value ?? "";
  if (text === "" || !/^([0-9a-fA-F]{2})+$/.test(text)) place.refuse(`must be hexadecimal, got "${text}"`);
  return Buffer.from(text, "hex");
}

// A request line is made of them.
const plainPath = /^[!-~]+$/;

function readHttp(message: HealthCheck_HttpHealthCheck, place: Place): Question {
  if (!message.path.startsWith("/") || !plainPath.test(message.path))
    place.field("path").refuse(`must begin with "/" and be plain ASCII, got "${message.path}"`);
  if (message.host !== "" && !plainPath.test(message.host))
    place.field("host").refuse(`must be plain ASCII without spaces, got "${message.host}"`);
  if (message.send || message.receive.length > 0) place.field("send").refuse("a body is neither sent nor compared");
  if (message.serviceNameMatcher) place.field("service_name_matcher").refuse("is not known");
  if (message.codecClientType === CodecClientType.HTTP3)
    place.field("codec_client_type").refuse("HTTP/3 is not spoken");
  return {
    kind: "http",
    protocol: message.codecClientType === CodecClientType.HTTP2 ? "http2" : "http1",
    method: message.method === RequestMethod.METHOD_UNSPECIFIED ? "GET" : RequestMethod[message.method],
    path: message.path,
    host: message.host,
    headers: headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request"),
    expected: message.expectedStatuses.length > 0 ? message.expectedStatuses.map(range) : [{ start: 200, end: 201 }],
    retriable: message.retriableStatuses.map(range),
  };
}

const range = ({ start, end }: Int64Range): StatusRange => ({ start: Number(start), end: Number(end) });
