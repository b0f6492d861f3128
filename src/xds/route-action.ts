import {
  RedirectAction_RedirectResponseCode,
  type RouteActionSchema,
} from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { destinationCluster, hashPolicyFor, type RouteContext } from "./destination.ts";
import { headerFields, hostSet } from "./header-fields.ts";
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
  if (rule.redirect) return { ...shared, action: { case: "redirect", value: redirectOf(rule.redirect, context) } };
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
  const authority = rewrite?.authority ?? hostSet(rule.headers) ?? hostSet(single?.headers);
  return {
    clusterSpecifier:
      single && !single.headers
        ? { case: "cluster", value: destinationCluster(single.destination, context, "http") }
        : {
            case: "weightedClusters",
            value: {
              clusters: routes.map((one) => ({
                name: destinationCluster(one.destination, context, "http"),
                weight: one.weight,
                ...headerFields(one.headers),
                ...hostOf(hostSet(one.headers)),
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
    ...hostOf(authority),
    requestMirrorPolicies: mirrorsOf(rule, context),
    hashPolicy: hashPolicies(routes, context),
  };
}

const hostOf = (value: string | undefined) =>
  value === undefined ? {} : { hostRewriteSpecifier: { case: "hostRewriteLiteral" as const, value } };

/** What any of the destinations hashes by. Alike for several, it is said once. */
function hashPolicies(routes: HttpRule["route"], context: RouteContext): NonNullable<ActionFields["hashPolicy"]> {
  const byText = new Map(
    routes.flatMap(({ destination }) => hashPolicyFor(destination, context)).map((one) => [textOf(one), one]),
  );
  return [...byText.values()];
}

// A duration holds a big integer, which JSON does not know.
const textOf = (value: unknown) => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part));

function mirrorsOf(rule: HttpRule, context: RouteContext): NonNullable<ActionFields["requestMirrorPolicies"]> {
  const all = [...rule.mirrors];
  if (rule.mirror) {
    const value = rule.mirrorPercentage?.value ?? rule.mirrorPercent;
    all.push({ destination: rule.mirror, ...(value === undefined ? {} : { percentage: { value } }) });
  }
  return all
    .filter((one) => one.percentage?.value !== 0)
    .map((one) => ({
      cluster: destinationCluster(one.destination, context, "http"),
      runtimeFraction: { defaultValue: fraction(one.percentage?.value ?? 100) },
    }));
}

function redirectOf(redirect: NonNullable<HttpRule["redirect"]>, context: RouteContext) {
  const codes: Readonly<Record<number, RedirectAction_RedirectResponseCode>> = {
    301: RedirectAction_RedirectResponseCode.MOVED_PERMANENTLY,
    302: RedirectAction_RedirectResponseCode.FOUND,
    303: RedirectAction_RedirectResponseCode.SEE_OTHER,
    307: RedirectAction_RedirectResponseCode.TEMPORARY_REDIRECT,
    308: RedirectAction_RedirectResponseCode.PERMANENT_REDIRECT,
  };
  const { uri, prefixRewrite, authority, scheme } = redirect;
  const port = redirect.port ?? derivedPort(redirect, context);
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

/** The port of a redirect that asks for one to be worked out; none where an authority without a port says it already. */
function derivedPort(
  { derivePort, scheme, authority }: NonNullable<HttpRule["redirect"]>,
  { port, secure }: RouteContext,
): number | undefined {
  if (derivePort === undefined) return undefined;
  if (derivePort === "FROM_REQUEST_PORT") return port;
  if (authority !== undefined) return undefined;
  return (scheme ?? (secure ? "https" : "http")) === "https" ? 443 : 80;
}
