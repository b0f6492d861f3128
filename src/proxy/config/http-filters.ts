import type { Any } from "@bufbuild/protobuf/wkt";
import type { CorsPolicy as CorsMessage } from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import {
  type CorsPolicy as CorsFilterMessage,
  CorsPolicySchema,
} from "../../proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import type { HTTPFault } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { HTTPFaultSchema } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { readFraction } from "./fraction.ts";
import { readTextMatch } from "./matcher.ts";
import { type Place, readAny, readDuration } from "./reading.ts";
import type { CorsPolicy, Fault } from "./route.ts";

/** What routes and virtual hosts say of the filters before them. */
export interface PerFilter {
  readonly cors: CorsPolicy | undefined;
  readonly fault: Fault | undefined;
}

export function readFilters(configs: { readonly [name: string]: Any }, place: Place): PerFilter {
  let cors: CorsPolicy | undefined;
  let fault: Fault | undefined;
  for (const [name, any] of Object.entries(configs)) {
    const at = place.field(`typed_per_filter_config["${name}"]`);
    if (name === "envoy.filters.http.cors") {
      const message = readAny(any, CorsPolicySchema, at);
      if (message) cors = readCors(message, at);
    } else if (name === "envoy.filters.http.fault") {
      const message = readAny(any, HTTPFaultSchema, at);
      if (message) fault = readFault(message, at);
    } else at.refuse("is not known; there are envoy.filters.http.cors and envoy.filters.http.fault");
  }
  return { cors, fault };
}

/** As the filter has it in a route's settings, or as an old field of the route itself. */
export function readCors(message: CorsFilterMessage | CorsMessage, place: Place): CorsPolicy {
  return {
    origins: message.allowOriginStringMatch.flatMap(
      (match, index) => readTextMatch(match, place.field("allow_origin_string_match").item(index)) ?? [],
    ),
    methods: message.allowMethods,
    headers: message.allowHeaders,
    expose: message.exposeHeaders,
    maxAge: message.maxAge,
    credentials: message.allowCredentials ?? false,
    forwardUnmatchedPreflights: message.forwardNotMatchingPreflights ?? true,
  };
}

/** Reads what a listener's or route's fault filter injects. */
export function readFault(message: HTTPFault, place: Place): Fault | undefined {
  const { delay, abort } = message;
  if (message.headers.length > 0) place.field("headers").refuse("is not known; put the fault on a route");
  const given = {
    delay: ((): Fault["delay"] => {
      if (!delay) return undefined;
      const at = place.field("delay");
      if (delay.faultDelaySecifier.case !== "fixedDelay") return at.refuse("must have a fixed_delay");
      const ms = readDuration(delay.faultDelaySecifier.value, 0, at.field("fixed_delay"));
      return { ms, fraction: readFraction(delay.percentage) };
    })(),
    abort: ((): Fault["abort"] => {
      if (!abort) return undefined;
      const at = place.field("abort");
      const fraction = readFraction(abort.percentage);
      if (abort.errorType.case === "httpStatus")
        return { status: abort.errorType.value, grpcStatus: undefined, fraction };
      if (abort.errorType.case === "grpcStatus") return { status: 200, grpcStatus: abort.errorType.value, fraction };
      return at.refuse("must have an http_status or a grpc_status");
    })(),
  };
  return given.delay || given.abort ? given : undefined;
}
