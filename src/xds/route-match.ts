import { create } from "@bufbuild/protobuf";
import {
  type HeaderMatcher,
  HeaderMatcherSchema,
  type RouteMatchSchema,
  type RouteSchema,
} from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { type StringMatcher, StringMatcherSchema } from "../proto/gen/envoy/type/matcher/v3/string_pb.js";
import type { HttpMatch, StringMatch } from "../resources/index.ts";
import type { Fields } from "./typed.ts";

export type RouteFields = Fields<typeof RouteSchema>;
type MatchFields = Fields<typeof RouteMatchSchema>;

/** What a StringMatch says; an empty one, or a regex that takes everything, only asks whether something is there. */
export function stringMatcher(match: StringMatch): StringMatcher | undefined {
  if (match.exact !== undefined)
    return create(StringMatcherSchema, { matchPattern: { case: "exact", value: match.exact } });
  if (match.prefix !== undefined && match.prefix !== "")
    return create(StringMatcherSchema, { matchPattern: { case: "prefix", value: match.prefix } });
  if (match.regex !== undefined && match.regex !== "*" && match.regex !== "")
    return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex: match.regex } } });
  return undefined;
}

/** Whether a match takes every request. */
export function matchesEverything(match: HttpMatch): boolean {
  const path =
    match.uri === undefined || match.uri.prefix === "/" || ["", "*", ".*"].includes(match.uri.regex ?? "no regex");
  return (
    path &&
    !match.scheme &&
    !match.method &&
    !match.authority &&
    Object.keys(match.headers).length === 0 &&
    Object.keys(match.withoutHeaders).length === 0 &&
    Object.keys(match.queryParams).length === 0
  );
}

/** A match of a VirtualService as a route's; undefined takes everything. Who is calling was looked at before. */
export function routeMatch(match: HttpMatch | undefined): MatchFields {
  if (!match) return { pathSpecifier: { case: "prefix", value: "/" } };
  const headers: HeaderMatcher[] = [];
  for (const [name, value] of Object.entries(match.headers)) headers.push(headerMatcher(name, value, false));
  for (const [name, value] of Object.entries(match.withoutHeaders)) headers.push(headerMatcher(name, value, true));
  if (match.method) headers.push(headerMatcher(":method", match.method, false));
  if (match.authority) headers.push(headerMatcher(":authority", match.authority, false));
  if (match.scheme) headers.push(headerMatcher(":scheme", match.scheme, false));
  return {
    pathSpecifier: pathOf(match.uri),
    ...(match.ignoreUriCase ? { caseSensitive: false } : {}),
    headers,
    queryParameters: Object.entries(match.queryParams).map(([name, value]) => {
      const matcher = stringMatcher(value);
      return {
        name,
        queryParameterMatchSpecifier: matcher
          ? { case: "stringMatch" as const, value: matcher }
          : { case: "presentMatch" as const, value: true },
      };
    }),
  };
}

function pathOf(uri: StringMatch | undefined): NonNullable<MatchFields["pathSpecifier"]> {
  if (uri?.exact !== undefined) return { case: "path", value: uri.exact };
  if (uri?.prefix !== undefined && uri.prefix !== "") return { case: "prefix", value: uri.prefix };
  if (uri?.regex !== undefined && uri.regex !== "" && uri.regex !== "*")
    return { case: "safeRegex", value: { regex: uri.regex } };
  return { case: "prefix", value: "/" };
}

function headerMatcher(name: string, value: StringMatch, invertMatch: boolean): HeaderMatcher {
  const matcher = stringMatcher(value);
  return create(HeaderMatcherSchema, {
    name: name.toLowerCase(),
    invertMatch,
    // What is not there has none of the excluded values.
    treatMissingHeaderAsEmpty: invertMatch && matcher !== undefined,
    headerMatchSpecifier: matcher ? { case: "stringMatch", value: matcher } : { case: "presentMatch", value: true },
  });
}
