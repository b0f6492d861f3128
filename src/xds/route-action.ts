import type { Any } from "@bufbuild/protobuf/wkt";
import { type Mesh, resolveHost, ruleFor, type Service, type VirtualRoutes } from "../model/index.ts";
import { HeaderValueOption_HeaderAppendAction } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  CorsPolicySchema,
  RedirectAction_RedirectResponseCode,
  type RetryPolicySchema,
  type RouteActionSchema,
} from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { HTTPFaultSchema } from "../proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { PreviousPrioritiesConfigSchema } from "../proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { FractionalPercent_DenominatorType } from "../proto/gen/envoy/type/v3/percent_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { clusterName, type Hostname, outbound } from "../values/index.ts";
import type { Client } from "./client.ts";
import { policyFor } from "./policy.ts";
import { defaultRetries, otherHost } from "./retries.ts";
import { type RouteFields, stringMatcher } from "./route-match.ts";
import { extension, type Fields, milliseconds, typed } from "./typed.ts";

type ActionFields = Fields<typeof RouteActionSchema>;

/** What a route is written for: whose VirtualService, for whom, on which port. */
export interface RouteContext {
  readonly mesh: Mesh;
  readonly owner: VirtualRoutes;
  readonly services: ReadonlyMap<Hostname, Service>;
  readonly client: Client;
  readonly port: number;
}

type Destination = HttpRule["route"][number]["destination"];

/** The cluster of a destination: its port, else the host's only port, else the port that was called. */
export function destinationCluster(destination: Destination, context: RouteContext): string {
  const host = resolveHost(destination.host, context.owner.namespace, context.mesh.settings);
  const service = context.services.get(host);
  const only = service?.ports.length === 1 ? service.ports[0]!.number : undefined;
  const port = destination.port?.number ?? only ?? context.port;
  return clusterName(outbound(host, port, destination.subset ?? ""));
}

/** What a rule of a VirtualService does with a request. */
export function routeAction(rule: HttpRule, context: RouteContext): RouteFields {
  const shared: RouteFields = {
    ...headerFields(rule.headers),
    typedPerFilterConfig: perFilter(rule),
  };
  if (rule.redirect) return { ...shared, action: { case: "redirect", value: redirectOf(rule.redirect) } };
  if (rule.directResponse) {
    const { status, body } = rule.directResponse;
    const text = body?.string !== undefined ? Buffer.from(body.string) : Buffer.from(body?.bytes ?? "", "base64");
    return {
      ...shared,
      action: {
        case: "directResponse",
        value: {
          status,
          ...(body ? { body: { specifier: { case: "inlineBytes", value: new Uint8Array(text) } } } : {}),
        },
      },
    };
  }
  return { ...shared, action: { case: "route", value: forwardOf(rule, context) } };
}

function forwardOf(rule: HttpRule, context: RouteContext): ActionFields {
  const routes = rule.route.filter((one) => one.weight > 0);
  const single = routes.length === 1 ? routes[0] : undefined;
  const { rewrite } = rule;
  return {
    clusterSpecifier:
      single && !single.headers
        ? { case: "cluster", value: destinationCluster(single.destination, context) }
        : {
            case: "weightedClusters",
            value: {
              clusters: routes.map((one) => ({
                name: destinationCluster(one.destination, context),
                weight: one.weight,
                ...headerFields(one.headers),
              })),
            },
          },
    timeout: milliseconds(rule.timeout ?? 0),
    ...(rule.retries?.attempts === 0 ? {} : { retryPolicy: retriesOf(rule.retries) }),
    ...(rewrite?.uri === undefined ? {} : { prefixRewrite: rewrite.uri }),
    ...(rewrite?.uriRegexRewrite
      ? {
          regexRewrite: {
            pattern: { regex: rewrite.uriRegexRewrite.match },
            substitution: rewrite.uriRegexRewrite.rewrite,
          },
        }
      : {}),
    ...(rewrite?.authority === undefined
      ? {}
      : { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: rewrite.authority } }),
    requestMirrorPolicies: mirrorsOf(rule, context),
    hashPolicy: single ? hashPolicyFor(single.destination, context) : [],
  };
}

const tenThousandths = FractionalPercent_DenominatorType.MILLION;
const fraction = (percent: number) => ({ numerator: Math.round(percent * 10_000), denominator: tenThousandths });

function mirrorsOf(rule: HttpRule, context: RouteContext): NonNullable<ActionFields["requestMirrorPolicies"]> {
  const all = [...rule.mirrors];
  if (rule.mirror) {
    const value = rule.mirrorPercentage?.value ?? rule.mirrorPercent;
    all.push({ destination: rule.mirror, ...(value === undefined ? {} : { percentage: { value } }) });
  }
  return all
    .filter((one) => one.percentage?.value !== 0)
    .map((one) => ({
      cluster: destinationCluster(one.destination, context),
      runtimeFraction: { defaultValue: fraction(one.percentage?.value ?? 100) },
    }));
}

function retriesOf(retries: HttpRule["retries"]): Fields<typeof RetryPolicySchema> | typeof defaultRetries {
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

function redirectOf(redirect: NonNullable<HttpRule["redirect"]>) {
  const codes: Readonly<Record<number, RedirectAction_RedirectResponseCode>> = {
    301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
    302: RedirectAction_RedirectResponseCode.FOUND,
    303: RedirectAction_RedirectResponseCode.SEE_OTHER,
    307: RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT,
    308: RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT,
  };
  const { uri, prefixRewrite, authority, port, scheme } = redirect;
  return {
    responseCode: codes[redirect.redirectCode] ?? RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
    ...(authority === undefined ? {} : { hostRedirect: authority }),
    ...(port === undefined ? {} : { portRedirect: port }),
    ...(scheme === undefined ? {} : { schemeRewriteSpecifier: { case: "schemeRedirect" as const, value: scheme } }),
    ...(uri !== undefined
      ? { pathRewriteSpecifier: { case: "pathRedirect" as const, value: uri } }
      : prefixRewrite !== undefined
        ? { pathRewriteSpecifier: { case: "prefixRewrite" as const, value: prefixRewrite } }
        : {}),
  };
}

type HeaderChanges = NonNullable<HttpRule["headers"]>;

function headerFields(headers: HeaderChanges | undefined) {
  if (!headers) return {};
  const options = (change: HeaderChanges["request"]) => {
    const option =
      (appendAction: HeaderValueOption_HeaderAppendAction) =>
      ([key, value]: [string, string]) => ({
        header: { key, value },
        appendAction,
      });
    return [
      ...Object.entries(change?.set ?? {}).map(option(HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)),
      ...Object.entries(change?.add ?? {}).map(option(HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD)),
    ];
  };
  return {
    requestHeadersToAdd: options(headers.request),
    requestHeadersToRemove: [...(headers.request?.remove ?? [])],
    responseHeadersToAdd: options(headers.response),
    responseHeadersToRemove: [...(headers.response?.remove ?? [])],
  };
}

function perFilter(rule: HttpRule): Record<string, Any> {
  const config: Record<string, Any> = {};
  if (rule.fault) {
    const { delay, abort } = rule.fault;
    config["envoy.filters.http.fault"] = typed(HTTPFaultSchema, {
      ...(delay?.fixedDelay === undefined
        ? {}
        : {
            delay: {
              faultDelaySecifier: { case: "fixedDelay", value: milliseconds(delay.fixedDelay) },
              percentage: fraction(delay.percentage?.value ?? delay.percent ?? 100),
            },
          }),
      ...(abort
        ? {
            abort: {
              errorType:
                abort.grpcStatus === undefined
                  ? { case: "httpStatus", value: abort.httpStatus ?? 500 }
                  : { case: "grpcStatus", value: grpcStatus(abort.grpcStatus) },
              percentage: fraction(abort.percentage?.value ?? 100),
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
      enabledSpecifier: { case: "filterEnabled", value: { defaultValue: fraction(100) } },
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

/** What requests are hashed by, where the destination's rule asks for it. It stands on the route, not on the cluster. */
export function hashPolicyFor(
  destination: Pick<Destination, "host" | "subset" | "port">,
  context: RouteContext,
): NonNullable<ActionFields["hashPolicy"]> {
  const host = resolveHost(destination.host, context.owner.namespace, context.mesh.settings);
  const service = context.services.get(host);
  if (!service) return [];
  const only = service.ports.length === 1 ? service.ports[0]!.number : context.port;
  return hashPolicyOf(context.mesh, {
    service,
    port: destination.port?.number ?? only,
    subset: destination.subset,
    client: context.client,
  });
}

export function hashPolicyOf(
  mesh: Mesh,
  {
    service,
    port,
    subset,
    client,
  }: { readonly service: Service; readonly port: number; readonly subset: string | undefined; readonly client: Client },
): NonNullable<ActionFields["hashPolicy"]> {
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  const hash = policyFor(
    rule,
    port,
    rule?.subsets.find((one) => one.name === subset),
  ).loadBalancer?.consistentHash;
  if (!hash) return [];
  if (hash.httpHeaderName !== undefined)
    return [{ policySpecifier: { case: "header", value: { headerName: hash.httpHeaderName } } }];
  if (hash.httpCookie) {
    const { name, path, ttl } = hash.httpCookie;
    return [{ policySpecifier: { case: "cookie", value: { name, path, ttl: milliseconds(ttl) } } }];
  }
  if (hash.httpQueryParameterName !== undefined)
    return [{ policySpecifier: { case: "queryParameter", value: { name: hash.httpQueryParameterName } } }];
  return hash.useSourceIp ? [{ policySpecifier: { case: "connectionProperties", value: { sourceIp: true } } }] : [];
}
