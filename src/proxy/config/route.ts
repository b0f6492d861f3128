import type { Any } from "@bufbuild/protobuf/wkt";
import type { HeaderValueOption } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { HeaderValueOption_HeaderAppendAction as AppendAction } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import type {
  CorsPolicy as CorsMessage,
  HeaderMatcher,
  QueryParameterMatcher,
  RetryPolicy as RetryMessage,
  RouteAction,
  Route as RouteMessage,
  VirtualHost as VirtualHostMessage,
} from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { CorsPolicySchema } from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "../../proto/gen/envoy/config/route/v3/route_pb.js";
import type { HTTPFault } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { HTTPFaultSchema } from "../../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import type { FractionalPercent } from "../../proto/gen/envoy/type/v3/percent_pb.js";
import { readRegex, readTextMatch, type TextMatch } from "./matcher.ts";
import { type Place, readAny, readDuration } from "./reading.ts";

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
  | { readonly kind: "direct"; readonly status: number; readonly body: string };

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
  | { readonly kind: "header" | "query" | "cookie"; readonly name: string; readonly terminal: boolean }
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

/** Reads a whole route configuration; undefined after refusals. */
export function readRouteConfiguration(message: RouteConfiguration, place: Place): RouteTable | undefined {
  if (message.vhds) place.field("vhds").refuse("is not known; the virtual hosts must be in the message");
  if (message.clusterSpecifierPlugins.length > 0) place.field("cluster_specifier_plugins").refuse("are not known");
  const outerRequest = headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request");
  const outerResponse = headerChanges(message.responseHeadersToAdd, message.responseHeadersToRemove, place, "response");
  const exact = new Map<string, VirtualHost>();
  const suffixes: Array<readonly [string, VirtualHost]> = [];
  const prefixes: Array<readonly [string, VirtualHost]> = [];
  let any: VirtualHost | undefined;
  const seen = new Set<string>();
  const names = new Set<string>();
  const virtualHosts = message.virtualHosts.map((host, index) => {
    const at = place.field("virtual_hosts").item(index);
    if (host.name === "") at.field("name").refuse("is missing");
    if (names.has(host.name)) at.field("name").refuse(`"${host.name}" is there twice`);
    names.add(host.name);
    const read = readVirtualHost(host, at, outerRequest, outerResponse);
    if (host.domains.length === 0) at.field("domains").refuse("is empty");
    for (const [number, given] of host.domains.entries()) {
      const domain = given.toLowerCase();
      const where = at.field("domains").item(number);
      if (seen.has(domain)) where.refuse(`"${given}" is there twice; a domain belongs to one virtual host`);
      seen.add(domain);
      if (domain === "*") any = read;
      else if (domain.startsWith("*")) suffixes.push([domain.slice(1), read]);
      else if (domain.endsWith("*")) prefixes.push([domain.slice(0, -1), read]);
      else if (domain === "") where.refuse("is empty");
      else exact.set(domain, read);
    }
    return read;
  });
  const longestFirst = (a: readonly [string, VirtualHost], b: readonly [string, VirtualHost]) =>
    b[0].length - a[0].length;
  return {
    name: message.name,
    virtualHosts,
    exact,
    suffixes: suffixes.sort(longestFirst),
    prefixes: prefixes.sort(longestFirst),
    any,
    ignorePort: message.ignorePortInHostMatching,
  };
}

function readVirtualHost(
  message: VirtualHostMessage,
  place: Place,
  outerRequest: HeaderChanges,
  outerResponse: HeaderChanges,
): VirtualHost {
  if (message.matcher) place.field("matcher").refuse("is not known; use routes");
  if (message.requireTls !== 0) place.field("require_tls").refuse("is not known; use a redirect");
  if (message.rateLimits.length > 0) place.field("rate_limits").refuse("are not known");
  const shared = {
    virtualHost: message.name,
    requestHeaders: headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request"),
    responseHeaders: headerChanges(message.responseHeadersToAdd, message.responseHeadersToRemove, place, "response"),
    cors: message.cors ? readCors(message.cors, place.field("cors")) : undefined,
    retry: message.retryPolicy ? readRetry(message.retryPolicy, place.field("retry_policy")) : undefined,
    filters: readFilters(message.typedPerFilterConfig, place),
    outerRequest,
    outerResponse,
  };
  return {
    name: message.name,
    routes: message.routes.flatMap((route, index) => readRoute(route, place.field("routes").item(index), shared) ?? []),
    includeAttemptCount: message.includeRequestAttemptCount,
    includeAttemptCountInResponse: message.includeAttemptCountInResponse,
  };
}

interface Shared {
  readonly virtualHost: string;
  readonly requestHeaders: HeaderChanges;
  readonly responseHeaders: HeaderChanges;
  readonly cors: CorsPolicy | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly filters: PerFilter;
  readonly outerRequest: HeaderChanges;
  readonly outerResponse: HeaderChanges;
}

function readRoute(message: RouteMessage, place: Place, shared: Shared): Route | undefined {
  const match = readMatch(message, place.field("match"));
  const action = readAction(message, place, shared);
  const filters = readFilters(message.typedPerFilterConfig, place);
  const requestHeaders = headerChanges(message.requestHeadersToAdd, message.requestHeadersToRemove, place, "request");
  const responseHeaders = headerChanges(
    message.responseHeadersToAdd,
    message.responseHeadersToRemove,
    place,
    "response",
  );
  const legacy = message.action.case === "route" ? message.action.value.cors : undefined;
  if (!match || !action) return undefined;
  return {
    name: message.name,
    virtualHost: shared.virtualHost,
    match,
    action,
    requestHeaders: [...requestHeaders, ...shared.requestHeaders, ...shared.outerRequest],
    responseHeaders: [...responseHeaders, ...shared.responseHeaders, ...shared.outerResponse],
    cors:
      filters.cors ??
      (legacy ? readCors(legacy, place.field("route").field("cors")) : undefined) ??
      shared.filters.cors ??
      shared.cors,
    fault: filters.fault ?? shared.filters.fault,
  };
}

function readMatch(message: RouteMessage, place: Place): RouteMatch | undefined {
  const given = message.match;
  if (!given) return place.refuse("is missing");
  const ignoreCase = given.caseSensitive === false;
  const fold = (text: string) => (ignoreCase ? text.toLowerCase() : text);
  const path = ((): RouteMatch["path"] | undefined => {
    const specifier = given.pathSpecifier;
    switch (specifier.case) {
      case "prefix":
        return { kind: "prefix", value: fold(specifier.value), ignoreCase };
      case "path":
        return { kind: "exact", value: fold(specifier.value), ignoreCase };
      case "pathSeparatedPrefix":
        return { kind: "segments", value: fold(specifier.value), ignoreCase };
      case "safeRegex": {
        const regex = readRegex(specifier.value, place.field("safe_regex"));
        return regex && { kind: "regex", regex };
      }
      case undefined:
        return place.refuse("has no path, prefix, path_separated_prefix or safe_regex");
      default:
        return place.refuse(`${specifier.case} is not known; use path, prefix, path_separated_prefix or safe_regex`);
    }
  })();
  if (given.tlsContext) place.field("tls_context").refuse("is not known");
  if (given.dynamicMetadata.length > 0) place.field("dynamic_metadata").refuse("is not known");
  const headers = given.headers.flatMap(
    (item, index) => readHeaderMatch(item, place.field("headers").item(index)) ?? [],
  );
  const query = given.queryParameters.flatMap(
    (item, index) => readQueryMatch(item, place.field("query_parameters").item(index)) ?? [],
  );
  const fraction = given.runtimeFraction && readFraction(given.runtimeFraction.defaultValue);
  if (!path) return undefined;
  const everything =
    path.kind === "prefix" &&
    path.value === "/" &&
    headers.length + query.length === 0 &&
    !given.grpc &&
    fraction === undefined;
  return { path, headers, query, grpc: given.grpc !== undefined, fraction, everything };
}

function readHeaderMatch(message: HeaderMatcher, place: Place): HeaderMatch | undefined {
  if (message.name === "") return place.field("name").refuse("is missing");
  const specifier = message.headerMatchSpecifier;
  const test = ((): HeaderMatch["test"] | undefined => {
    const text = (kind: "exact" | "prefix" | "suffix" | "contains", value: string) =>
      ({ kind: "text", match: { kind, value, ignoreCase: false } }) as const;
    switch (specifier.case) {
      case undefined:
        return { kind: "present", present: true };
      case "presentMatch":
        return { kind: "present", present: specifier.value };
      case "exactMatch":
        return text("exact", specifier.value);
      case "prefixMatch":
        return text("prefix", specifier.value);
      case "suffixMatch":
        return text("suffix", specifier.value);
      case "containsMatch":
        return text("contains", specifier.value);
      case "rangeMatch":
        return { kind: "range", start: Number(specifier.value.start), end: Number(specifier.value.end) };
      case "safeRegexMatch": {
        const regex = readRegex(specifier.value, place.field("safe_regex_match"));
        return regex && { kind: "text", match: { kind: "regex", value: specifier.value.regex, regex } };
      }
      case "stringMatch": {
        const match = readTextMatch(specifier.value, place.field("string_match"));
        return match && { kind: "text", match };
      }
    }
  })();
  return (
    test && {
      name: message.name.toLowerCase(),
      test,
      invert: message.invertMatch,
      missingIsEmpty: message.treatMissingHeaderAsEmpty,
    }
  );
}

function readQueryMatch(message: QueryParameterMatcher, place: Place): QueryMatch | undefined {
  if (message.name === "") return place.field("name").refuse("is missing");
  const specifier = message.queryParameterMatchSpecifier;
  if (specifier.case !== "stringMatch") return { name: message.name, match: undefined };
  const match = readTextMatch(specifier.value, place.field("string_match"));
  return match && { name: message.name, match };
}

function readAction(message: RouteMessage, place: Place, shared: Shared): Action | undefined {
  const given = message.action;
  switch (given.case) {
    case "route":
      return readForward(given.value, place.field("route"), shared);
    case "redirect": {
      const at = place.field("redirect");
      const { value } = given;
      const scheme = value.schemeRewriteSpecifier;
      const status = [301, 302, 303, 307, 308][value.responseCode];
      if (status === undefined) return at.field("response_code").refuse("is not known");
      return {
        kind: "redirect",
        status,
        scheme: scheme.case === "httpsRedirect" ? (scheme.value ? "https" : undefined) : scheme.value || undefined,
        host: value.hostRedirect || undefined,
        port: value.portRedirect || undefined,
        path: ((): PathRewrite | undefined => {
          const rewrite = value.pathRewriteSpecifier;
          if (rewrite.case === "pathRedirect") return { kind: "whole", value: rewrite.value };
          if (rewrite.case === "prefixRewrite") return { kind: "prefix", value: rewrite.value };
          if (rewrite.case !== "regexRewrite") return undefined;
          return readRegexRewrite(rewrite.value, at.field("regex_rewrite"));
        })(),
        stripQuery: value.stripQuery,
      };
    }
    case "directResponse": {
      const at = place.field("direct_response");
      const { status, body } = given.value;
      if (status < 200 || status > 599) return at.field("status").refuse(`must be between 200 and 599, got ${status}`);
      const source = body?.specifier;
      if (source?.case === "inlineString") return { kind: "direct", status, body: source.value };
      if (source?.case === "inlineBytes")
        return { kind: "direct", status, body: Buffer.from(source.value).toString("utf8") };
      if (source?.case !== undefined) return at.field("body").refuse("must be inline_string or inline_bytes");
      return { kind: "direct", status, body: "" };
    }
    case undefined:
      return place.refuse("has no route, redirect or direct_response");
    default:
      return place.refuse(`${given.case} is not known; use route, redirect or direct_response`);
  }
}

function readForward(message: RouteAction, place: Place, shared: Shared): Forward | undefined {
  const to = readClusters(message, place);
  const host = message.hostRewriteSpecifier;
  if (host.case === "autoHostRewrite" && host.value) place.field("auto_host_rewrite").refuse("is not known");
  if (host.case === "hostRewritePathRegex") place.field("host_rewrite_path_regex").refuse("is not known");
  if (message.pathRewritePolicy) place.field("path_rewrite_policy").refuse("is not known");
  if (message.rateLimits.length > 0) place.field("rate_limits").refuse("are not known");
  if (message.hedgePolicy) place.field("hedge_policy").refuse("is not known");
  if (message.internalRedirectPolicy) place.field("internal_redirect_policy").refuse("is not known");
  if (message.metadataMatch) place.field("metadata_match").refuse("is not known; use a cluster for each subset");
  const path = message.regexRewrite
    ? readRegexRewrite(message.regexRewrite, place.field("regex_rewrite"))
    : message.prefixRewrite !== ""
      ? ({ kind: "prefix", value: message.prefixRewrite } as const)
      : undefined;
  const mirrors = message.requestMirrorPolicies.flatMap((mirror, index) => {
    const at = place.field("request_mirror_policies").item(index);
    if (mirror.cluster === "") return at.field("cluster").refuse("is missing") ?? [];
    const fraction = mirror.runtimeFraction ? readFraction(mirror.runtimeFraction.defaultValue) : 1;
    return fraction > 0 ? [{ cluster: mirror.cluster, fraction }] : [];
  });
  const upgrades = new Map<string, boolean>();
  for (const [index, upgrade] of message.upgradeConfigs.entries()) {
    if (upgrade.connectConfig)
      place.field("upgrade_configs").item(index).field("connect_config").refuse("is not known; use a TCP listener");
    upgrades.set(upgrade.upgradeType.toLowerCase(), upgrade.enabled ?? true);
  }
  const stream = message.maxStreamDuration;
  const grpcMax = stream?.grpcTimeoutHeaderMax ?? message.maxGrpcTimeout;
  const retry = message.retryPolicy ? readRetry(message.retryPolicy, place.field("retry_policy")) : shared.retry;
  const timeoutMs = readDuration(message.timeout, 15_000, place.field("timeout"));
  if (!to) return undefined;
  return {
    kind: "forward",
    to,
    notFoundStatus: [503, 404, 500][message.clusterNotFoundResponseCode] ?? 503,
    path,
    host:
      host.case === "hostRewriteLiteral"
        ? { kind: "literal", value: host.value }
        : host.case === "hostRewriteHeader"
          ? { kind: "header", value: host.value.toLowerCase() }
          : undefined,
    timeoutMs: stream?.maxStreamDuration
      ? readDuration(stream.maxStreamDuration, 0, place.field("max_stream_duration").field("max_stream_duration"))
      : timeoutMs,
    idleTimeoutMs: readDuration(message.idleTimeout, undefined, place.field("idle_timeout")),
    maxGrpcTimeoutMs: readDuration(grpcMax, undefined, place.field("max_grpc_timeout")),
    retry: retry && retry.retries > 0 ? retry : undefined,
    mirrors,
    hash: message.hashPolicy.flatMap((policy, index): HashPolicy | HashPolicy[] => {
      const at = place.field("hash_policy").item(index);
      const { policySpecifier: specifier, terminal } = policy;
      switch (specifier.case) {
        case "header":
          return { kind: "header", name: specifier.value.headerName.toLowerCase(), terminal };
        case "cookie":
          return { kind: "cookie", name: specifier.value.name, terminal };
        case "queryParameter":
          return { kind: "query", name: specifier.value.name, terminal };
        case "connectionProperties":
          return specifier.value.sourceIp ? { kind: "source-ip", terminal } : [];
        default:
          at.refuse(`${specifier.case ?? "an empty policy"} is not known`);
          return [];
      }
    }),
    upgrades,
  };
}

function readClusters(message: RouteAction, place: Place): ClusterChoice | undefined {
  const specifier = message.clusterSpecifier;
  switch (specifier.case) {
    case "cluster":
      return specifier.value === ""
        ? place.field("cluster").refuse("is empty")
        : { kind: "cluster", name: specifier.value };
    case "clusterHeader":
      return { kind: "header", name: specifier.value.toLowerCase() };
    case "weightedClusters": {
      const at = place.field("weighted_clusters");
      const clusters = specifier.value.clusters.map((cluster, index): WeightedCluster => {
        const where = at.field("clusters").item(index);
        if (cluster.name === "") where.field("name").refuse("is missing");
        if (cluster.metadataMatch) where.field("metadata_match").refuse("is not known");
        return {
          name: cluster.name,
          weight: cluster.weight ?? 0,
          requestHeaders: headerChanges(cluster.requestHeadersToAdd, cluster.requestHeadersToRemove, where, "request"),
          responseHeaders: headerChanges(
            cluster.responseHeadersToAdd,
            cluster.responseHeadersToRemove,
            where,
            "response",
          ),
          host: cluster.hostRewriteSpecifier.value,
        };
      });
      const total = clusters.reduce((sum, { weight }) => sum + weight, 0);
      if (total === 0) return at.refuse("have no weight");
      return { kind: "weighted", total, clusters };
    }
    default:
      return place.refuse(
        `${specifier.case ?? "no cluster"} is not known; use cluster, weighted_clusters or cluster_header`,
      );
  }
}

function readRegexRewrite(
  message: { pattern?: Parameters<typeof readRegex>[0]; substitution: string },
  place: Place,
): PathRewrite | undefined {
  const regex = readRegex(message.pattern, place.field("pattern"), false);
  // RE2 writes `\1` for what it found, JavaScript `$1`.
  const substitution = message.substitution
    .replaceAll("$", "$$$$")
    .replaceAll(/\\(\d)/g, (_, digit) => (digit === "0" ? "$&" : `$${digit}`));
  return regex && { kind: "regex", regex, substitution };
}

function readRetry(message: RetryMessage, place: Place): RetryPolicy {
  const on = new Set<RetryCondition>();
  const statuses = new Set(message.retriableStatusCodes);
  for (const word of message.retryOn.split(",").map((part) => part.trim())) {
    if (word === "") continue;
    const known = retryConditions.find((condition) => condition === word);
    if (known) on.add(known);
    else if (/^[1-5][0-9][0-9]$/.test(word)) {
      on.add("retriable-status-codes");
      statuses.add(Number(word));
    } else place.field("retry_on").refuse(`"${word}" is no condition; there are ${retryConditions.join(", ")}`);
  }
  const previous = "previous_hosts";
  for (const [index, predicate] of message.retryHostPredicate.entries()) {
    if (!predicate.name.endsWith(previous))
      place.field("retry_host_predicate").item(index).refuse(`"${predicate.name}" is not known; there is ${previous}`);
  }
  // Avoiding the priorities that were tried is done by avoiding their hosts.
  const priority = message.retryPriority?.name ?? "";
  if (priority !== "" && !priority.endsWith("previous_priorities"))
    place.field("retry_priority").refuse(`"${priority}" is not known; there is previous_priorities`);
  const back = place.field("retry_back_off");
  const firstMs = Math.max(1, readDuration(message.retryBackOff?.baseInterval, 25, back.field("base_interval")));
  return {
    on,
    retries: message.numRetries ?? 1,
    statuses,
    perTryTimeoutMs: readDuration(message.perTryTimeout, 0, place.field("per_try_timeout")),
    avoidPreviousHosts: priority !== "" || message.retryHostPredicate.some(({ name }) => name.endsWith(previous)),
    backoff: {
      firstMs,
      maxMs: readDuration(message.retryBackOff?.maxInterval, firstMs * 10, back.field("max_interval")),
    },
    headers: message.retriableHeaders.flatMap(
      (header, index) => readHeaderMatch(header, place.field("retriable_headers").item(index)) ?? [],
    ),
  };
}

interface PerFilter {
  readonly cors: CorsPolicy | undefined;
  readonly fault: Fault | undefined;
}

function readFilters(configs: { readonly [name: string]: Any }, place: Place): PerFilter {
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

function readCors(message: CorsMessage, place: Place): CorsPolicy {
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

function readFraction(message: FractionalPercent | undefined): number {
  if (!message) return 0;
  return Math.min(1, message.numerator / ([100, 10_000, 1_000_000][message.denominator] ?? 100));
}

// What the codec writes itself, and what would let a table write a second message into the first.
const ours = new Set(["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer"]);

function headerChanges(
  add: readonly HeaderValueOption[],
  remove: readonly string[],
  place: Place,
  which: "request" | "response",
): HeaderChanges {
  const changes: HeaderChange[] = remove.map((name) => ({ kind: "remove", name: name.toLowerCase() }));
  for (const [index, option] of add.entries()) {
    const at = place.field(`${which}_headers_to_add`).item(index).field("header");
    const name = option.header?.key.toLowerCase() ?? "";
    const value = option.header?.value ?? "";
    if (!/^:authority$|^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) || ours.has(name)) {
      at.field("key").refuse(`"${name}" cannot be set`);
      continue;
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the very characters that a value may not hold.
    if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) {
      at.field("value").refuse("has control characters");
      continue;
    }
    if (value === "" && !option.keepEmptyValue) continue;
    const append = option.append;
    const kind =
      append !== undefined
        ? append
          ? "append"
          : "overwrite"
        : (
            {
              [AppendAction.APPEND_IF_EXISTS_OR_ADD]: "append",
              [AppendAction.ADD_IF_ABSENT]: "add-if-absent",
              [AppendAction.OVERWRITE_IF_EXISTS_OR_ADD]: "overwrite",
              [AppendAction.OVERWRITE_IF_EXISTS]: "overwrite-if-exists",
            } as const
          )[option.appendAction];
    changes.push({ kind, name: name === ":authority" ? "host" : name, value });
  }
  return changes;
}
