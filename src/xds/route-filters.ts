import type { Any } from "@bufbuild/protobuf/wkt";
import { CorsPolicySchema } from "../proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { FractionalPercent_DenominatorType } from "../proto/gen/envoy/type/v3/percent_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { stringMatcher } from "./route-match.ts";
import { milliseconds, typed } from "./typed.ts";

const tenThousandths = FractionalPercent_DenominatorType.MILLION;
/** Per cent as a fraction, to four places. */
export const fraction = (percent: number) => ({ numerator: Math.round(percent * 10_000), denominator: tenThousandths });

/** What a rule says to filters before the router: faults to make, and whose pages may call. */
export function perFilter(rule: HttpRule): Record<string, Any> {
  const config: Record<string, Any> = {};
  if (rule.fault) {
    const { delay, abort } = rule.fault;
    config["envoy.filters.http.fault"] = typed(HTTPFaultSchema, {
      ...(delay?.fixedDelay === undefined
        ? {}
        : {
            delay: {
              faultDelaySecifier: { case: "fixedDelay", value: milliseconds(delay.fixedDelay) },
              percentage: fraction(delay.percentage?.value ?? delay.percent ?? 0),
            },
          }),
      ...(abort
        ? {
            abort: {
              errorType:
                abort.grpcStatus === undefined
                  ? { case: "httpStatus", value: abort.httpStatus ?? 500 }
                  : { case: "grpcStatus", value: grpcStatus(abort.grpcStatus) },
              percentage: fraction(abort.percentage?.value ?? 0),
            },
          }
        : {}),
    });
  }
  if (rule.corsPolicy) {
    const cors = rule.corsPolicy;
    const origins = [
      ...cors.allowOrigins,
      ...cors.allowOrigin.map((exact) => (exact === "*" ? { regex: ".*" } : { exact })),
    ];
    config["envoy.filters.http.cors"] = typed(CorsPolicySchema, {
      allowOriginStringMatch: origins.flatMap((one) => stringMatcher(one) ?? stringMatcher({ regex: ".*" }) ?? []),
      allowMethods: cors.allowMethods.join(","),
      allowHeaders: cors.allowHeaders.join(","),
      exposeHeaders: cors.exposeHeaders.join(","),
      ...(cors.maxAge === undefined ? {} : { maxAge: String(Math.round(cors.maxAge / 1000)) }),
      ...(cors.allowCredentials === undefined ? {} : { allowCredentials: cors.allowCredentials }),
      ...(cors.unmatchedPreflights === "IGNORE" ? { forwardNotMatchingPreflights: false } : {}),
      filterEnabled: { defaultValue: fraction(100) },
    });
  }
  return config;
}

const grpcWords = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** A gRPC status by word or number; what is neither is UNKNOWN. */
function grpcStatus(written: string): number {
  const at = grpcWords.indexOf(written.toUpperCase());
  if (at !== -1) return at;
  const number = Number(written);
  return Number.isInteger(number) && number >= 0 && number < grpcWords.length ? number : 2;
}
