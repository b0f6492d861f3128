/** Longest pattern, in characters: what a route matches, not a program. */
const longest = 1024;

export type RegexProblem = { readonly kind: "does-not-compile" | "not-re2"; readonly why: string };

/**
 * Why a pattern cannot be used for matching; undefined when it can. Envoy runs patterns with RE2 and the embedded proxy
 * with JavaScript's engine, so a pattern must be one for both: it has to compile here and use nothing that RE2 lacks,
 * which are lookaround and backreferences.
 */
export function regexProblem(pattern: string): RegexProblem | undefined {
  if (pattern.length > longest)
    return { kind: "does-not-compile", why: `is ${pattern.length} characters long, and at most ${longest} are taken` };
  const lacking = notInRe2(pattern);
  if (lacking) return { kind: "not-re2", why: `uses ${lacking}, which RE2 does not have` };
  try {
    // RE2 writes flags in front and names groups with a P; the embedded proxy reads both.
    new RegExp(pattern.replace(/^\(\?[is]+\)/, "").replaceAll("(?P<", "(?<"));
    return undefined;
  } catch (caught) {
    // The engine throws a SyntaxError with the reason behind the last colon.
    const reason = caught instanceof SyntaxError ? caught.message.split(": ").at(-1) : String(caught);
    return { kind: "does-not-compile", why: `does not compile: ${reason}` };
  }
}

/** How many groups a pattern has that `\\1` and so on can name. The pattern compiles. */
export function groupsOf(pattern: string): number {
  const source = pattern.replace(/^\(\?[is]+\)/, "").replaceAll("(?P<", "(?<");
  // An alternative of nothing always matches, and a match names every group.
  return new RegExp(`${source}|`).exec("")!.length - 1;
}

function notInRe2(pattern: string): string | undefined {
  let inClass = false;
  for (let i = 0; i < pattern.length; i++) {
    const rest = pattern.slice(i, i + 4);
    if (rest.startsWith("\\")) {
      if (!inClass && /^\\(?:[1-9]|k<)/.test(rest)) return "a backreference";
      i++;
    } else if (inClass) {
      inClass = rest[0] !== "]";
    } else if (rest.startsWith("[")) {
      inClass = true;
    } else if (/^\(\?<?[=!]/.test(rest)) {
      return "lookaround";
    }
  }
  return undefined;
}
