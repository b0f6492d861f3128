import type { z } from "zod";
import type { Code } from "./codes.ts";
import { type IssueParams, type Path, quoted } from "./schema.ts";

/** One thing wrong with a value, in words. `at` says which side of a mapping's entry the path means. */
export interface Worded {
  readonly path: Path;
  readonly at: "key" | "value";
  readonly code: Code;
  readonly message: string;
}

/** An issue of a schema as sentences for who wrote the value. `root` is the whole value that was read. */
export function wordIssue(issue: z.core.$ZodRawIssue, root: unknown, outer: Path = []): Worded[] {
  const path = [...outer, ...((issue.path ?? []) as Path)];
  const input = "input" in issue && issue.input !== undefined ? issue.input : valueAt(root, path);
  const value = (code: Code, message: string): Worded[] => [{ path, at: "value", code, message }];
  switch (issue.code) {
    case "custom": {
      const params = (issue.params ?? {}) as Partial<IssueParams>;
      return value(params.code ?? "ISM0305", issue.message ?? ownMessage(issue) ?? "is not allowed");
    }
    case "unrecognized_keys": {
      const known = Object.keys((issue.inst as z.ZodObject | undefined)?._zod.def.shape ?? {});
      return issue.keys.map((key) => ({
        path: [...path, key],
        at: "key",
        code: "ISM0301",
        message: `is not a field here${nearest(key, known)}`,
      }));
    }
    case "invalid_type":
      return input === undefined
        ? value("ISM0302", "is required")
        : value("ISM0303", `must be ${typeName(issue.expected)}, got ${got(input)}${typeHint(issue.expected, input)}`);
    case "invalid_value":
      if (input === undefined) return value("ISM0302", `is required: one of ${issue.values.join(", ")}`);
      return value(
        "ISM0304",
        `must be one of ${issue.values.join(", ")}, got ${quoted(input)}${nearest(String(input), issue.values.map(String))}`,
      );
    case "too_small":
      return value("ISM0305", `must ${size(issue.origin, "least", Number(issue.minimum))}, got ${amount(input)}`);
    case "too_big":
      return value("ISM0305", `must ${size(issue.origin, "most", Number(issue.maximum))}, got ${amount(input)}`);
    case "invalid_key":
      return (issue.issues as z.core.$ZodRawIssue[]).flatMap((inner) =>
        wordIssue(inner, root, path.slice(0, -1)).map(({ code, message }) => ({
          path,
          at: "key" as const,
          code,
          message,
        })),
      );
    case "invalid_union": {
      const branches = (issue.errors as z.core.$ZodRawIssue[][]).map((inner) =>
        inner.flatMap((one) => wordIssue({ ...one, input } as z.core.$ZodRawIssue, input)),
      );
      const musts = branches.map((words) => words[0]?.message.replace(/^must be /, "").replace(/, got .*$/, "") ?? "");
      return input === undefined
        ? value("ISM0302", "is required")
        : value("ISM0303", `must be ${[...new Set(musts)].join(" or ")}, got ${got(input)}`);
    }
    default:
      return value("ISM0303", issue.message ?? "is not allowed");
  }
}

/** The words that a refinement was given. */
function ownMessage(issue: z.core.$ZodRawIssue): string | undefined {
  const inst = issue.inst as { _zod?: { def?: { error?: (issue: z.core.$ZodRawIssue) => unknown } } } | undefined;
  const said = inst?._zod?.def?.error?.(issue);
  return typeof said === "string" ? said : undefined;
}

function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

const typeNames: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a mapping",
  record: "a mapping",
  array: "a list",
};

function typeName(expected: string): string {
  return typeNames[expected] ?? expected;
}

function got(input: unknown): string {
  if (Array.isArray(input)) return "a list";
  return typeof input === "object" && input !== null ? "a mapping" : quoted(input);
}

function typeHint(expected: string, input: unknown): string {
  const simple = typeof input === "number" || typeof input === "boolean";
  if (expected === "string" && simple) return `; put it in quotes: "${input}"`;
  if (expected === "array" && (simple || typeof input === "string")) return '; begin the entry with "- "';
  if ((expected === "number" || expected === "int") && typeof input === "string" && /^\d+$/.test(input))
    return "; leave out the quotes";
  return "";
}

function size(origin: string, which: "least" | "most", bound: number): string {
  if (origin === "array") return `have at ${which} ${bound} ${bound === 1 ? "entry" : "entries"}`;
  if (origin === "string") return `have at ${which} ${bound} ${bound === 1 ? "character" : "characters"}`;
  return `be at ${which} ${bound}`;
}

function amount(input: unknown): string {
  if (Array.isArray(input)) return input.length === 0 ? "none" : String(input.length);
  return quoted(input);
}

/** `; did you mean "hosts"?`, or nothing when no known word is near. */
export function nearest(word: string, known: readonly string[]): string {
  if (word.length > 64) return "";
  let best: string | undefined;
  let least = Math.min(3, Math.ceil(word.length / 2));
  for (const candidate of known) {
    const steps = distance(word.toLowerCase(), candidate.toLowerCase());
    if (steps < least) [best, least] = [candidate, steps];
  }
  if (best !== undefined) return `; did you mean "${best}"?`;
  return known.length > 0 && known.length <= 12 ? `; there is ${known.join(", ")}` : "";
}

/** Levenshtein's distance between two short words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
