import { create } from "@bufbuild/protobuf";
import { type RetryPolicy, RetryPolicySchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "../proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { extension } from "./typed.ts";

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
