import { describe, expect, test } from "vitest";
import type { RetryCondition, RetryPolicy } from "../config/route.ts";
import { type AttemptEnd, decideRetry } from "./retry.ts";

const policy = (...on: RetryCondition[]): RetryPolicy => ({
  on: new Set(on),
  retries: 2,
  statuses: new Set([503]),
  perTryTimeoutMs: 0,
  avoidPreviousHosts: true,
  leavePriorityAfter: undefined,
  backoff: { firstMs: 25, maxMs: 250 },
  headers: [],
});
const usual = policy("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes");
const reset = (how: "refused" | "reset" | "protocol", stale = false): AttemptEnd => ({ kind: "reset", how, stale });
const answer = (status: number, headers: string[] = []): AttemptEnd => ({ kind: "response", status, headers });

const rows: ReadonlyArray<
  readonly [
    it: string,
    end: AttemptEnd,
    expected: string,
    more?: { policy?: RetryPolicy; method?: string; attempts?: number; replayable?: boolean },
  ]
> = [
  ["a refused connection", { kind: "connect-failure" }, "retry"],
  ["a refused connection of a POST", { kind: "connect-failure" }, "retry", { method: "POST" }],
  ["a refused connection for the third time", { kind: "connect-failure" }, "stop exhausted", { attempts: 3 }],
  ["a refused connection of a body that is gone", { kind: "connect-failure" }, "stop", { replayable: false }],
  ["a refused stream", reset("refused"), "retry"],
  ["a reset", reset("reset"), "stop"],
  ["a reset where resets are asked for", reset("reset"), "retry", { policy: policy("reset") }],
  ["a stale connection of a GET", reset("reset", true), "fresh"],
  ["a stale connection of a POST", reset("reset", true), "stop", { method: "POST" }],
  [
    "a stale connection of a POST where resets are asked for",
    reset("reset", true),
    "retry",
    { method: "POST", policy: policy("reset") },
  ],
  ["a 503 in the list", answer(503), "retry"],
  ["a 500", answer(500), "stop"],
  ["a 500 where 5xx is asked for", answer(500), "retry", { policy: policy("5xx") }],
  ["a 502 where gateway-error is asked for", answer(502), "retry", { policy: policy("gateway-error") }],
  ["a 409 where retriable-4xx is asked for", answer(409), "retry", { policy: policy("retriable-4xx") }],
  ["gRPC unavailable", answer(200, ["grpc-status", "14"]), "retry"],
  ["gRPC internal", answer(200, ["grpc-status", "13"]), "stop"],
  ["a try that took too long", { kind: "per-try-timeout" }, "stop"],
];

describe("whether to try again after", () => {
  for (const [it, end, expected, more = {}] of rows) {
    test(`${it}: ${expected}`, () => {
      const got = decideRetry({ policy: usual, end, attempts: 1, replayable: true, method: "GET", ...more });
      expect(got.kind === "stop" && got.exhausted ? "stop exhausted" : got.kind).toBe(expected);
    });
  }
});
