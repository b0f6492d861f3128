import { matchesText } from "../config/matcher.ts";
import type {
  Forward,
  HeaderChanges,
  HeaderMatch,
  PathRewrite,
  QueryMatch,
  Route,
  RouteMatch,
  RouteTable,
  VirtualHost,
  WeightedCluster,
} from "../config/route.ts";
import { allHeaderValues, type Headers, headerValue, removeHeader, setHeader } from "./headers.ts";
import type { RequestHead } from "./message.ts";

/** `Example.ORG.:80` as `example.org:80`: the one spelling under which hosts are compared. */
export function normalAuthority(authority: string): string {
  const lower = authority.toLowerCase();
  const colon = portColon(lower);
  const end = colon < 0 ? lower.length : colon;
  return lower.charCodeAt(end - 1) === 46 ? lower.slice(0, end - 1) + lower.slice(end) : lower;
}

/** Where `:port` begins, or −1. Not inside the brackets of an IPv6 address. */
export function portColon(authority: string): number {
  const colon = authority.lastIndexOf(":");
  return colon > authority.lastIndexOf("]") ? colon : -1;
}

/** The virtual host that answers for an authority: exact before suffix before prefix before `*`, longest first. */
export function findVirtualHost(table: RouteTable, authority: string): VirtualHost | undefined {
  let host = normalAuthority(authority);
  if (table.ignorePort) {
    const colon = portColon(host);
    if (colon >= 0) host = host.slice(0, colon);
  }
  const exact = table.exact.get(host);
  if (exact) return exact;
  // A wildcard stands for at least one character, as in the protocol.
  for (const [suffix, found] of table.suffixes) if (host.length > suffix.length && host.endsWith(suffix)) return found;
  for (const [prefix, found] of table.prefixes)
    if (host.length > prefix.length && host.startsWith(prefix)) return found;
  return table.any;
}

/** The first route of the virtual host that matches. */
export function findRoute(
  host: VirtualHost,
  request: RequestHead,
  scheme: string,
  random: () => number,
): Route | undefined {
  for (const route of host.routes) {
    if (route.match.everything || matchesRequest(route.match, request, scheme, random)) return route;
  }
  return undefined;
}

function matchesRequest(match: RouteMatch, request: RequestHead, scheme: string, random: () => number): boolean {
  if (!matchesPath(match.path, request.path)) return false;
  for (const header of match.headers)
    if (!matchesHeader(header, (name) => requestField(request, scheme, name))) return false;
  if (match.query.length > 0 && !matchesQuery(match.query, request.path)) return false;
  if (match.grpc && !isGrpc(request.headers)) return false;
  return match.fraction === undefined || random() < match.fraction;
}

function matchesPath(match: RouteMatch["path"], target: string): boolean {
  const end = target.indexOf("?");
  const path = end < 0 ? target : target.slice(0, end);
  if (match.kind === "regex") return path.length <= 8192 && match.regex.test(path);
  const subject = match.ignoreCase ? path.toLowerCase() : path;
  switch (match.kind) {
    case "exact":
      return subject === match.value;
    case "prefix":
      return subject.startsWith(match.value);
    case "segments":
      return (
        subject.startsWith(match.value) &&
        (subject.length === match.value.length || subject[match.value.length] === "/")
      );
  }
}

/** A request field as rules name it: all values of it, and the pseudo-fields of HTTP/2. */
export function requestField(request: RequestHead, scheme: string, name: string): string | undefined {
  switch (name) {
    case ":method":
      return request.method;
    case ":path":
      return request.path;
    case ":authority":
    case "host":
      return request.authority;
    case ":scheme":
      return schemeOf(request, scheme);
    case "content-length":
      return request.contentLength < 0 ? undefined : String(request.contentLength);
    default:
      return allHeaderValues(request.headers, name);
  }
}

/** What the caller, or the proxy in front of it, says that was spoken: the connection's own scheme where nobody says. */
export function schemeOf({ headers }: RequestHead, scheme: string): string {
  const said = headerValue(headers, "x-forwarded-proto");
  return said === "http" || said === "https" ? said : scheme;
}

export function matchesHeader(match: HeaderMatch, field: (name: string) => string | undefined): boolean {
  const value = field(match.name) ?? (match.missingIsEmpty ? "" : undefined);
  const { test } = match;
  if (test.kind === "present") return ((value !== undefined) === test.present) !== match.invert;
  // What is not there matches nothing, inverted or not, but for the one test that asks for its absence.
  if (value === undefined) return false;
  const found =
    test.kind === "range"
      ? /^-?\d{1,15}$/.test(value) && Number(value) >= test.start && Number(value) < test.end
      : matchesText(test.match, value);
  return found !== match.invert;
}

function matchesQuery(matches: readonly QueryMatch[], target: string): boolean {
  const parameters = queryOf(target);
  return matches.every(({ name, match }) => {
    const value = parameters.get(name);
    return value !== null && (match === undefined || matchesText(match, value));
  });
}

export function queryOf(target: string): URLSearchParams {
  const question = target.indexOf("?");
  return new URLSearchParams(question < 0 ? "" : target.slice(question + 1));
}

export function isGrpc(headers: Headers): boolean {
  const type = headerValue(headers, "content-type");
  return type?.startsWith("application/grpc") === true && (type.length === 16 || /^[+;]/.test(type.slice(16)));
}

/** The cluster that a request goes to, with what else its choice brings; undefined when a header should name it and is not there. */
export function chooseCluster(
  action: Forward,
  request: RequestHead,
  random: () => number,
): { readonly name: string; readonly weighted?: WeightedCluster } | undefined {
  const { to } = action;
  switch (to.kind) {
    case "cluster":
      return to;
    case "header": {
      const name = headerValue(request.headers, to.name);
      return name === undefined ? undefined : { name };
    }
    case "weighted": {
      let at = random() * to.total;
      for (const cluster of to.clusters) {
        at -= cluster.weight;
        if (at < 0) return { name: cluster.name, weighted: cluster };
      }
      const last = to.clusters.findLast(({ weight }) => weight > 0)!;
      return { name: last.name, weighted: last };
    }
  }
}

/** The path after a rewrite, query kept. */
export function rewritePath(target: string, rewrite: PathRewrite, match: RouteMatch): string {
  const question = target.indexOf("?");
  const path = question < 0 ? target : target.slice(0, question);
  const query = question < 0 ? "" : target.slice(question);
  switch (rewrite.kind) {
    case "whole":
      return rewrite.value.includes("?") ? rewrite.value : rewrite.value + query;
    case "prefix": {
      // An exact or regex match is replaced as a whole: all of the path is what matched.
      const matched =
        match.path.kind === "prefix" || match.path.kind === "segments" ? match.path.value.length : path.length;
      return rooted(rewrite.value + path.slice(matched)) + query;
    }
    case "regex":
      return rooted(path.replace(rewrite.regex, rewrite.substitution)) + query;
  }
}

const rooted = (path: string) => (path.startsWith("/") ? path : `/${path}`);

/** What command operators in the values of fields stand for. */
export interface Operators {
  /** A text with its operators by what they stand for. */
  substituted(template: string): string;
}

/** Applies what a route changes. `host` is not in the list: its change is returned. */
export function changeHeaders(headers: Headers, changes: HeaderChanges, operators: Operators): string | undefined {
  let host: string | undefined;
  for (const change of changes) {
    if (change.kind === "remove") {
      removeHeader(headers, change.name);
      continue;
    }
    const value = change.value.includes("%") ? operators.substituted(change.value) : change.value;
    // An operator may stand for nothing, and then there is nothing to set.
    if (value === "" && change.value !== "") continue;
    if (change.name === "host") {
      host = value;
      continue;
    }
    const there = change.kind === "append" ? undefined : headerValue(headers, change.name);
    if (change.kind === "append" || (change.kind === "add-if-absent" && there === undefined))
      headers.push(change.name, value);
    else if (change.kind === "overwrite" || (change.kind === "overwrite-if-exists" && there !== undefined))
      setHeader(headers, change.name, value);
  }
  return host;
}
