import { Refusal } from "./message.ts";

export interface PathRules {
  readonly normalizePath: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: "keep" | "reject" | "redirect" | "unescape";
}

export type NormalPath =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "redirect"; readonly path: string };

// What a plain path has none of: an escape, a backslash, a segment that begins with a dot, an empty segment.
const needsWork = /[%\\]|\/\.|\/\//;
const refuse = (message: string): never => {
  throw new Refusal(400, "path_normalization_failed", message);
};

/**
 * The path that route, policy and upstream all see: one spelling for one thing, so that no rule is passed by writing the
 * same path otherwise (RFC 3986 §6.2.2). The query stays as it is. Throws a `Refusal` (400) on what has no one meaning.
 */
export function normalPath(target: string, rules: PathRules): NormalPath {
  const question = target.indexOf("?");
  const path = question < 0 ? target : target.slice(0, question);
  if (!needsWork.test(path) || target === "*") return { kind: "path", path: target };
  const query = question < 0 ? "" : target.slice(question);
  let redirect = false;
  // Overlong UTF-8 is another spelling of ASCII; NUL ends a path for some readers and not for others.
  let clean = path.replace(/%(..?)?/g, (found, digits: string | undefined) => {
    if (!digits || !/^[0-9a-fA-F]{2}$/.test(digits))
      return refuse(`the path has the broken escape ${JSON.stringify(found)}`);
    const byte = Number.parseInt(digits, 16);
    if (byte === 0) return refuse("the path has an escaped NUL");
    if (byte === 0xc0 || byte === 0xc1 || byte >= 0xf5)
      return refuse(`the path has the byte ${found}, which is no UTF-8`);
    if (!rules.normalizePath) return found;
    const char = String.fromCharCode(byte);
    if (/[A-Za-z0-9\-._~]/.test(char)) return char;
    if (char === "/" || char === "\\") {
      if (rules.escapedSlashes === "reject") return refuse(`the path has the escaped slash ${found}`);
      if (rules.escapedSlashes === "redirect") redirect = true;
      if (rules.escapedSlashes === "redirect" || rules.escapedSlashes === "unescape") return "/";
    }
    return found.toUpperCase();
  });
  if (/%E0%[89]|%F0%8/i.test(clean)) refuse("the path has overlong UTF-8");
  if (rules.normalizePath) clean = withoutDots(clean.replaceAll("\\", "/"));
  if (rules.mergeSlashes) clean = clean.replace(/\/{2,}/g, "/");
  return { kind: redirect ? "redirect" : "path", path: clean + query };
}

/** Removes `.` and `..` segments (RFC 3986 §5.2.4). A path that climbs above its root is refused. */
function withoutDots(path: string): string {
  if (!path.includes("/.")) return path;
  const out: string[] = [];
  const segments = path.split("/");
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i]!;
    const last = i === segments.length - 1;
    if (segment === ".") {
      if (last) out.push("");
    } else if (segment === "..") {
      if (out.length === 0) refuse("the path climbs above its root");
      out.pop();
      if (last) out.push("");
    } else out.push(segment);
  }
  return `/${out.join("/")}`;
}
