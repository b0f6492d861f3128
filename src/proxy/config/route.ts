import type { TextMatch } from "./matcher.ts";

/** The routes of one name: which request goes where. Read by `l7/route-match.ts`. */
export interface RouteTable {
  readonly name: string;
  readonly virtualHosts: readonly VirtualHost[];
  /** Virtual hosts by what their domains say, lower case. */
  readonly exact: ReadonlyMap<string, VirtualHost>;
  /** `*.example.org` as `.example.org`, longest first. */
  readonly suffixes: ReadonlyArray<readonly [string, VirtualHost]>;
  /** `api.*` as `api.`, longest first. */
  readonly prefixes: ReadonlyArray<readonly [string, VirtualHost]>;
  readonly any: VirtualHost | undefined;
  readonly ignorePort: boolean;
}

export interface VirtualHost {
  readonly name: string;
  readonly routes: readonly Route[];
  readonly includeAttemptCount: boolean;
  readonly includeAttemptCountInResponse: boolean;
}

export interface Route {
  readonly name: string;
  readonly virtualHost: string;
  readonly match: RouteMatch;
  readonly action: Action;
  /** Of the route, its virtual host and the table, in the order in which they apply. */
  readonly requestHeaders: HeaderChanges;
  readonly responseHeaders: HeaderChanges;
  readonly cors: CorsPolicy | undefined;
  readonly fault: Fault | undefined;
}

export interface RouteMatch {
  readonly path:
    | { readonly kind: "prefix" | "exact" | "segments"; readonly value: string; readonly ignoreCase: boolean }
    | { readonly kind: "regex"; readonly regex: RegExp };
  readonly headers: readonly HeaderMatch[];
  readonly query: readonly QueryMatch[];
  readonly grpc: boolean;
  /** Share of requests from 0 to 1; undefined for all. */
  readonly fraction: number | undefined;
  /** Matches whatever comes: prefix `/` and nothing else. */
  readonly everything: boolean;
}

export interface HeaderMatch {
  readonly name: string;
  readonly test:
    | { readonly kind: "present"; readonly present: boolean }
    | { readonly kind: "range"; readonly start: number; readonly end: number }
    | { readonly kind: "text"; readonly match: TextMatch };
  readonly invert: boolean;
  readonly missingIsEmpty: boolean;
}

export interface QueryMatch {
  readonly name: string;
  readonly match: TextMatch | undefined;
}

export type HeaderChange =
  | {
      readonly kind: "append" | "add-if-absent" | "overwrite" | "overwrite-if-exists";
      readonly name: string;
      readonly value: string;
    }
  | { readonly kind: "remove"; readonly name: string };
export type HeaderChanges = readonly HeaderChange[];

export type Action =
  | Forward
  | {
      readonly kind: "redirect";
      readonly status: number;
      readonly scheme: string | undefined;
      readonly host: string | undefined;
      readonly port: number | undefined;
      readonly path: PathRewrite | undefined;
      readonly stripQuery: boolean;
    }
  | { readonly kind: "direct"; readonly status: number; readonly body: Buffer };

export interface Forward {
  readonly kind: "forward";
  readonly to: ClusterChoice;
  readonly notFoundStatus: number;
  readonly path: PathRewrite | undefined;
  readonly host: { readonly kind: "literal" | "header"; readonly value: string } | undefined;
  /** 0 for none. */
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number | undefined;
  /** Longest that `grpc-timeout` may ask for; undefined does not look at it, 0 believes it. */
  readonly maxGrpcTimeoutMs: number | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly mirrors: readonly Mirror[];
  readonly hash: readonly HashPolicy[];
  /** Upgrades that this route allows or forbids beside those of the listener. */
  readonly upgrades: ReadonlyMap<string, boolean>;
}

export type ClusterChoice =
  | { readonly kind: "cluster"; readonly name: string }
  | { readonly kind: "header"; readonly name: string }
  | { readonly kind: "weighted"; readonly total: number; readonly clusters: readonly WeightedCluster[] };

export interface WeightedCluster {
  readonly name: string;
  readonly weight: number;
  readonly requestHeaders: HeaderChanges;
  readonly responseHeaders: HeaderChanges;
  readonly host: string | undefined;
}

export type PathRewrite =
  | { readonly kind: "prefix"; readonly value: string }
  | { readonly kind: "whole"; readonly value: string }
  | { readonly kind: "regex"; readonly regex: RegExp; readonly substitution: string };

export interface Mirror {
  readonly cluster: string;
  readonly fraction: number;
}

export type HashPolicy =
  | { readonly kind: "header" | "query"; readonly name: string; readonly terminal: boolean }
  | {
      readonly kind: "cookie";
      readonly name: string;
      readonly terminal: boolean;
      /** A caller that has none gets one; an age of 0 is for its session. */
      readonly make: { readonly path: string; readonly maxAgeS: number } | undefined;
    }
  | { readonly kind: "source-ip"; readonly terminal: boolean };

export const retryConditions = [
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
] as const;
export type RetryCondition = (typeof retryConditions)[number];

export interface RetryPolicy {
  readonly on: ReadonlySet<RetryCondition>;
  /** Tries after the first. */
  readonly retries: number;
  readonly statuses: ReadonlySet<number>;
  readonly perTryTimeoutMs: number;
  readonly avoidPreviousHosts: boolean;
  /** After each so many tries, the priorities of the tries so far are passed over; undefined for never. */
  readonly leavePriorityAfter: number | undefined;
  readonly backoff: { readonly firstMs: number; readonly maxMs: number };
  readonly headers: readonly HeaderMatch[];
}

export interface CorsPolicy {
  readonly origins: readonly TextMatch[];
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  readonly maxAge: string;
  readonly credentials: boolean;
  readonly forwardUnmatchedPreflights: boolean;
}

export interface Fault {
  readonly delay: { readonly ms: number; readonly fraction: number } | undefined;
  readonly abort:
    | { readonly status: number; readonly grpcStatus: number | undefined; readonly fraction: number }
    | undefined;
}
