import type { RetryPolicy } from "../config/route.ts";
import { type Headers, headerValue } from "./headers.ts";
import type { ResetKind } from "./message.ts";
import { matchesHeader } from "./route-match.ts";

/** How one attempt went wrong, or what it answered. */
export type AttemptEnd =
  | { readonly kind: "connect-failure" }
  | {
      readonly kind: "reset";
      readonly how: ResetKind;
      /** The connection had served before and ended without a byte of answer: it was idle too long, most likely. */
      readonly stale: boolean;
    }
  | { readonly kind: "per-try-timeout" }
  | { readonly kind: "response"; readonly status: number; readonly headers: Headers };

export interface RetryQuestion {
  readonly policy: RetryPolicy | undefined;
  readonly end: AttemptEnd;
  /** Tries made so far, the failed one included. */
  readonly attempts: number;
  /** The body can be sent again from its beginning. */
  readonly replayable: boolean;
  readonly method: string;
}

export type RetryAnswer =
  /** Again at once on a fresh connection; counts as no retry. */
  { readonly kind: "fresh" } | { readonly kind: "retry" } | { readonly kind: "stop"; readonly exhausted: boolean };

// RFC 9110 §9.2.2.
const idempotent = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
const grpcConditions = new Map([
  ["1", "cancelled"],
  ["4", "deadline-exceeded"],
  ["8", "resource-exhausted"],
  ["13", "internal"],
  ["14", "unavailable"],
] as const);

/**
 * Whether to try again. What may have reached a server is sent twice only where that does no harm (RFC 9110 §9.2.2), or
 * where the route asks for it in so many words.
 */
export function decideRetry(question: RetryQuestion): RetryAnswer {
  const { policy, end, attempts, replayable, method } = question;
  if (!replayable) return { kind: "stop", exhausted: false };
  if (end.kind === "reset" && end.stale && idempotent.has(method)) return { kind: "fresh" };
  if (!policy || !wants(policy, end)) return { kind: "stop", exhausted: false };
  return attempts > policy.retries ? { kind: "stop", exhausted: true } : { kind: "retry" };
}

function wants(policy: RetryPolicy, end: AttemptEnd): boolean {
  const { on } = policy;
  switch (end.kind) {
    case "connect-failure":
      return on.has("connect-failure") || on.has("gateway-error") || on.has("5xx") || on.has("reset");
    case "reset":
      if (end.how === "refused" && on.has("refused-stream")) return true;
      return (
        on.has("reset") ||
        on.has("5xx") ||
        on.has("gateway-error") ||
        (end.how === "refused" && on.has("reset-before-request"))
      );
    case "per-try-timeout":
      return on.has("reset") || on.has("5xx") || on.has("gateway-error");
    case "response":
      return wantsResponse(policy, end.status, end.headers);
  }
}

function wantsResponse(policy: RetryPolicy, status: number, headers: Headers): boolean {
  const { on } = policy;
  if (status >= 500 && on.has("5xx")) return true;
  if ((status === 502 || status === 503 || status === 504) && on.has("gateway-error")) return true;
  if (status === 409 && on.has("retriable-4xx")) return true;
  if (on.has("retriable-status-codes") && policy.statuses.has(status)) return true;
  if (on.has("envoy-ratelimited") && headerValue(headers, "x-envoy-ratelimited") !== undefined) return true;
  if (
    on.has("retriable-headers") &&
    policy.headers.some((match) => matchesHeader(match, (name) => headerValue(headers, name)))
  )
    return true;
  const grpc = grpcConditions.get((headerValue(headers, "grpc-status") ?? "") as "1");
  return grpc !== undefined && on.has(grpc);
}
