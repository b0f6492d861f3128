import { setFlagsFromString } from "node:v8";
import type { RegexMatcher } from "../../proto/gen/envoy/type/matcher/v3/regex_pb.js";
import type { StringMatcher } from "../../proto/gen/envoy/type/matcher/v3/string_pb.js";
import type { Place } from "./reading.ts";

/** A test of a text. */
export type TextMatch =
  | { readonly kind: "exact" | "prefix" | "suffix" | "contains"; readonly value: string; readonly ignoreCase: boolean }
  | { readonly kind: "regex"; readonly value: string; readonly regex: RegExp };

export function matchesText(match: TextMatch, text: string): boolean {
  if (match.kind === "regex") return text.length <= longestMatched && match.regex.test(text);
  const subject = match.ignoreCase ? text.toLowerCase() : text;
  switch (match.kind) {
    case "exact":
      return subject === match.value;
    case "prefix":
      return subject.startsWith(match.value);
    case "suffix":
      return subject.endsWith(match.value);
    case "contains":
      return subject.includes(match.value);
  }
}

/** A text longer than this matches no regex, whatever the regex says. In characters. */
const longestMatched = 16 * 1024;
const longestPattern = 1024;

// The engine whose time is linear in the text is behind a flag that only makes the `l` flag of a RegExp known.
setFlagsFromString("--enable-experimental-regexp-engine");

/**
 * A regex of the protocol (RE2's syntax, the whole text) as one of ours. In linear time where the engine can; otherwise
 * a repetition within a repetition is refused, because a stranger's path could then hold the process for minutes.
 */
export function readRegex(message: RegexMatcher | undefined, place: Place, whole = true): RegExp | undefined {
  const at = place.field("regex");
  const given = message?.regex ?? "";
  if (given === "") return at.refuse("is missing");
  if (given.length > longestPattern) return at.refuse(`is longer than ${longestPattern} characters`);
  const flags = /^\(\?([is]+)\)/.exec(given);
  const pattern = given.slice(flags?.[0].length ?? 0).replaceAll("(?P<", "(?<");
  if (/\(\?(?:[=!]|<[=!])|\\[1-9]|\\k</.test(pattern))
    return at.refuse(`"${given}" looks around or back, which the protocol's regexes cannot`);
  const source = whole ? `^(?:${pattern})$` : pattern;
  const wanted = (flags?.[1] ?? "") + (whole ? "" : "g");
  try {
    return new RegExp(source, `${wanted}l`);
  } catch {
    // Not linear, or wrong: the usual engine tells the two apart.
  }
  try {
    if (/[*+}][^()]*\)[*+{]/.test(pattern))
      return at.refuse(`"${given}" repeats a repetition with counts; write it without one of them`);
    return new RegExp(source, wanted);
  } catch (caught) {
    return at.refuse(`"${given}" is no regex: ${(caught as Error).message}`);
  }
}

export function readTextMatch(message: StringMatcher | undefined, place: Place): TextMatch | undefined {
  const { matchPattern, ignoreCase = false } = message ?? {};
  switch (matchPattern?.case) {
    case "exact":
    case "prefix":
    case "suffix":
    case "contains": {
      const value = ignoreCase ? matchPattern.value.toLowerCase() : matchPattern.value;
      return { kind: matchPattern.case, value, ignoreCase };
    }
    case "safeRegex": {
      const regex = readRegex(matchPattern.value, place.field("safe_regex"));
      return regex && { kind: "regex", value: matchPattern.value.regex, regex };
    }
    case "custom":
      return place.field("custom").refuse("is not known; use exact, prefix, suffix, contains or safe_regex");
    default:
      return place.refuse("has no pattern");
  }
}
