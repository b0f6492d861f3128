import { matchesText } from "../config/matcher.ts";
import type { Action, CorsPolicy, Route, RouteTable, VirtualHost } from "../config/route.ts";
import { forwardHeaders } from "./forwarding.ts";
import { type Headers, headerValue, isFieldValue } from "./headers.ts";
import type { RequestHead } from "./message.ts";
import { normalPath } from "./path.ts";
import type { Reply } from "./reply.ts";
import { findRoute, findVirtualHost, normalAuthority, portColon, rewritePath, schemeOf } from "./route-match.ts";
import type { Served } from "./serve-http.ts";

/** Where a request goes, or the answer that it gets from here. */
export type Routed =
  | {
      readonly kind: "route";
      readonly virtualHost: VirtualHost;
      readonly route: Route;
      /** What its answer says to the page that asks from another origin. */
      readonly cors: Headers | undefined;
    }
  | { readonly kind: "reply"; readonly reply: Reply; readonly route?: Route };

/**
 * Finds the route of a request. On the way its path gets its one spelling, its authority is shortened as the listener
 * says, and its trust headers are made true: what comes after sees only that. Throws a `Refusal` for a path without
 * a meaning.
 */
export function routeRequest(request: RequestHead, served: Served): Routed {
  const { service, connection, forwarding } = served;
  const { manager, http } = service;
  if (request.method === "CONNECT")
    return replied({
      status: 403,
      body: `CONNECT to "${request.authority}" is not served on listener "${connection.listener}"`,
      details: "upgrade_failed",
      flags: ["NR"],
    });
  if (service.explicit && !request.absolute)
    return replied({
      status: 400,
      body: "this port is an explicit proxy: it wants a whole URL, as in GET http://host:port/path",
      details: "explicit_proxy_wants_url",
      flags: ["DPE"],
      close: true,
    });
  const normal = normalPath(request.path, manager);
  request.path = normal.path;
  if (normal.kind === "redirect") return replied(redirectTo(307, normal.path));
  if (request.upgrade !== undefined && !manager.upgrades.has(request.upgrade)) request.upgrade = undefined;
  shortenAuthority(request, served);
  const table = tableFor(request, served);
  if ("status" in table) return replied(table);
  forwardHeaders(request.headers, connection, manager, forwarding);
  const virtualHost = findVirtualHost(table, request.authority);
  if (!virtualHost)
    return replied(notFound(`"${request.authority}" is no host of route table "${table.name}"`, "route_not_found"));
  const route = findRoute(virtualHost, request, forwarding.scheme, http.random);
  if (!route) {
    const path = request.path.length > 100 ? `${request.path.slice(0, 100)}…` : request.path;
    const what = `"${request.method} ${path}" matches none of virtual host "${virtualHost.name}"`;
    return replied(notFound(`${what} of route table "${table.name}"`, "route_not_found"));
  }
  if (!route.cors) return { kind: "route", virtualHost, route, cors: undefined };
  const cors = answerCors(route.cors, request);
  if (cors && !Array.isArray(cors)) return { kind: "reply", reply: cors, route };
  return { kind: "route", virtualHost, route, cors };
}

/** The redirect that a route stands for. */
export function redirectOf(
  action: Extract<Action, { kind: "redirect" }>,
  { request, route, scheme }: { readonly request: RequestHead; readonly route: Route; readonly scheme: string },
): Reply {
  let path = action.path ? rewritePath(request.path, action.path, route.match) : request.path;
  if (action.stripQuery) path = path.split("?")[0]!;
  const colon = portColon(request.authority);
  const asked = schemeOf(request, scheme);
  const to = action.scheme ?? asked;
  // A port that was asked stays, but for one that goes without saying and belongs to another scheme.
  const own = colon < 0 ? "" : request.authority.slice(colon);
  const usual = to !== asked && own === (asked === "https" ? ":443" : ":80");
  const kept = action.port === undefined && !usual;
  const host = action.host ?? (kept || colon < 0 ? request.authority : request.authority.slice(0, colon));
  const port = action.port === undefined ? "" : `:${action.port}`;
  return redirectTo(action.status, `${to}://${host}${port}${path.startsWith("/") ? "" : "/"}${path}`);
}

const replied = (reply: Reply): Routed => ({ kind: "reply", reply });

const notFound = (why: string, details: string): Reply => ({
  status: 404,
  body: `no route: ${why}`,
  details,
  flags: ["NR"],
});

function redirectTo(status: number, location: string): Reply {
  if (!isFieldValue(location))
    return { status: 400, body: "the redirect would hold control characters", details: "invalid_redirect" };
  return { status, body: "", details: "direct_response", exact: true, headers: ["location", location] };
}

function shortenAuthority(request: RequestHead, { service, connection }: Served): void {
  const { manager } = service;
  if (!manager.stripTrailingDot && manager.stripPort === "no") return;
  const colon = portColon(request.authority);
  let host = colon < 0 ? request.authority : request.authority.slice(0, colon);
  let port = colon < 0 ? "" : request.authority.slice(colon);
  if (manager.stripTrailingDot && host.endsWith(".")) host = host.slice(0, -1);
  const same = port === `:${connection.destination.port}`;
  if (manager.stripPort === "any" || (manager.stripPort === "matching" && same)) port = "";
  request.authority = host + port;
}

function tableFor(request: RequestHead, { service }: Served): RouteTable | Reply {
  const { explicit, manager } = service;
  if (explicit) {
    const authority = normalAuthority(request.authority);
    const colon = portColon(authority);
    const port = colon < 0 ? 80 : Number(authority.slice(colon + 1));
    const name = explicit.routeName(authority, port);
    return (
      (name === undefined ? undefined : service.routes(name)) ?? {
        status: 502,
        body: `no service of the mesh listens on port ${port}: "${request.authority}" is not known here`,
        details: "route_not_found",
        flags: ["NR"],
      }
    );
  }
  if (manager.routes.kind === "inline") return manager.routes.table;
  const { name } = manager.routes;
  return (
    service.routes(name) ??
    notFound(`route table "${name}" has not arrived from the control plane`, "route_configuration_not_found")
  );
}

/** The answer to a preflight, or the fields that the answer to come gets. */
function answerCors(policy: CorsPolicy, { headers, method }: RequestHead): Reply | Headers | undefined {
  const origin = headerValue(headers, "origin");
  if (origin === undefined || origin === "") return undefined;
  const preflight = method === "OPTIONS" && (headerValue(headers, "access-control-request-method") ?? "") !== "";
  // One that takes a star takes every origin.
  const allowed = policy.origins.some((match) => matchesText(match, "*") || matchesText(match, origin));
  // A preflight that is not passed on is answered, and says of a strange origin nothing that would let it in.
  if (!allowed && (!preflight || policy.forwardUnmatchedPreflights)) return undefined;
  const fields: Headers = allowed ? ["access-control-allow-origin", origin] : [];
  if (policy.credentials) fields.push("access-control-allow-credentials", "true");
  if (!preflight) {
    if (policy.expose !== "") fields.push("access-control-expose-headers", policy.expose);
    return fields;
  }
  const asked = (name: string) => headerValue(headers, `access-control-request-${name}`) ?? "";
  const named = (name: "method" | "headers", said: string) => (said === "*" ? asked(name) : said);
  if (policy.methods !== "") fields.push("access-control-allow-methods", named("method", policy.methods));
  if (policy.headers !== "") fields.push("access-control-allow-headers", named("headers", policy.headers));
  if (policy.maxAge !== "") fields.push("access-control-max-age", policy.maxAge);
  return { status: 200, body: "", details: "cors.response", exact: true, headers: fields };
}
