import type {
  RouteAction,
  RouteAction_HashPolicy_Cookie,
  Route as RouteMessage,
} from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { readFraction } from "./fraction.ts";
import { headerChanges } from "./header-changes.ts";
import { readRegex } from "./matcher.ts";
import { type Place, readDuration } from "./reading.ts";
import { readRetry } from "./retry-policy.ts";
import type { Action, ClusterChoice, Forward, HashPolicy, PathRewrite, RetryPolicy, WeightedCluster } from "./route.ts";

/** What a route may have from its virtual host, and what its table allows. */
interface Shared {
  readonly retry: RetryPolicy | undefined;
  /** Longest body of a direct response, in bytes. */
  readonly longestBody: number;
}

/** What becomes of the requests of a route; undefined after refusals. */
export function readAction(message: RouteMessage, place: Place, shared: Shared): Action | undefined {
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
      if (source?.case !== undefined && source.case !== "inlineString" && source.case !== "inlineBytes")
        return at.field("body").refuse("must be inline_string or inline_bytes");
      const bytes = Buffer.from(source?.value ?? "");
      if (bytes.length > shared.longestBody)
        return at.field("body").refuse(`is ${bytes.length} bytes long, at most ${shared.longestBody} are allowed`);
      return { kind: "direct", status, body: bytes };
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
          return { kind: "cookie", name: specifier.value.name, terminal, make: readCookie(specifier.value, at) };
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

function readCookie({ ttl, path }: RouteAction_HashPolicy_Cookie, place: Place) {
  if (!ttl) return undefined;
  const at = place.field("cookie");
  if (/[;\p{Cc}]/u.test(path)) at.field("path").refuse("must hold no semicolon or control character");
  return { path, maxAgeS: Math.floor(readDuration(ttl, 0, at.field("ttl")) / 1000) };
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
  // RE2 writes `\1` for what it found and `\\` for a backslash, JavaScript `$1` and `\`.
  const substitution = message.substitution
    .replaceAll("$", "$$$$")
    .replaceAll(/\\([\\\d])/g, (_, char) => (char === "\\" ? char : char === "0" ? "$&" : `$${char}`));
  return regex && { kind: "regex", regex, substitution };
}
