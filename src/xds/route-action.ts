import { HeaderValueOption_HeaderAppendAction } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  RedirectAction_RedirectResponseCode,
  type RouteActionSchema,
} from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { destinationCluster, hashPolicyFor, type RouteContext } from "./destination.ts";
import { retriesOf } from "./retries.ts";
import { fraction, perFilter } from "./route-filters.ts";
import type { RouteFields } from "./route-match.ts";
import { type Fields, milliseconds } from "./typed.ts";

type ActionFields = Fields<typeof RouteActionSchema>;

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
