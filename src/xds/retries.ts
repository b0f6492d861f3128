import { create } from "@bufbuild/protobuf";
import { type RetryPolicy, RetryPolicySchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "../proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "../proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { extension, type Fields, milliseconds } from "./typed.ts";

/** Prefers another endpoint than the one that failed. */
export const otherHost = extension("envoy.retry_host_predicates.previous_hosts", PreviousHostsPredicateSchema, {});

/** What is tried again when nobody says otherwise: twice, where the request surely, or by its answer, was not served. */
export const defaultRetries: RetryPolicy = create(RetryPolicySchema, {
  retryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
  numRetries: 2,
  retriableStatusCodes: [503],
  retryHostPredicate: [otherHost],
  hostSelectionRetryMaxAttempts: 5n,
});

/** What is tried again, how often, and where. */
export function retriesOf(retries: HttpRule["retries"]): Fields<typeof RetryPolicySchema> | typeof defaultRetries {
  if (!retries) return defaultRetries;
  const codes: number[] = [];
  const words: string[] = [];
  for (const written of (retries.retryOn ?? "").split(",").map((word) => word.trim())) {
    if (/^\d{3}$/.test(written)) codes.push(Number(written));
    else if (written !== "") words.push(written);
  }
  if (codes.length > 0 && !words.includes("retriable-status-codes")) words.push("retriable-status-codes");
  const named = words.length > 0;
  return {
    retryOn: named ? words.join(",") : defaultRetries.retryOn,
    retriableStatusCodes: named ? codes : defaultRetries.retriableStatusCodes,
    numRetries: retries.attempts,
    ...(retries.perTryTimeout === undefined ? {} : { perTryTimeout: milliseconds(retries.perTryTimeout) }),
    ...(retries.retryIgnorePreviousHosts === false ? {} : { retryHostPredicate: [otherHost] }),
    hostSelectionRetryMaxAttempts: 5n,
    ...(retries.backoff === undefined ? {} : { retryBackOff: { baseInterval: milliseconds(retries.backoff) } }),
    ...(retries.retryRemoteLocalities
      ? {
          retryPriority: extension("envoy.retry_priorities.previous_priorities", PreviousPrioritiesConfigSchema, {
            updateFrequency: 2,
          }),
        }
      : {}),
  };
}
