import type {
  HeaderMatcher,
  QueryParameterMatcher,
  Route as RouteMessage,
} from "../../proto/gen/envoy/config/route/v3/route_components_pb.js";
import { readFraction } from "./fraction.ts";
import { readRegex, readTextMatch } from "./matcher.ts";
import type { Place } from "./reading.ts";
import type { HeaderMatch, QueryMatch, RouteMatch } from "./route.ts";

/** Which requests a route is for; undefined after refusals. */
export function readMatch(message: RouteMessage, place: Place): RouteMatch | undefined {
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

export function readHeaderMatch(message: HeaderMatcher, place: Place): HeaderMatch | undefined {
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
