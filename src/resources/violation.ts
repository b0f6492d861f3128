import type { Code } from "./codes.ts";
import type { Path } from "./schema.ts";

/** One thing that is wrong (or unwise) in what somebody wrote, and where. */
export interface Violation {
  readonly file?: string;
  /** Line and column count from 1. Both are 1 for what did not come from a text. */
  readonly line: number;
  readonly column: number;
  /** `spec.ports[0].number`; empty for the object or the document as a whole. */
  readonly path: string;
  /** What is wrong, and what to write instead. */
  readonly message: string;
  readonly code: Code;
  readonly severity: "error" | "warning";
}

/** `shop.yaml:9:13: spec.ports[0].number: must be at most 65535, got 70000 (ISM0305)`. Always one line. */
export function formatViolation(violation: Violation): string {
  const { file, line, column, path, message, code } = violation;
  const where = `${file === undefined ? "" : `${file}:`}${line}:${column}`;
  const warning = violation.severity === "warning" ? "warning: " : "";
  return oneLine(`${where}: ${path === "" ? "" : `${path}: `}${warning}${message} (${code})`);
}

// What is quoted from a file must not be able to begin a line of its own or steer a terminal.
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is struck out
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** `spec.ports[0].number`; keys that are no plain words are quoted: `metadata.labels["a/b"]`. */
export function formatPath(path: Path): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (/^[A-Za-z_$][\w$-]*$/.test(part)) text += text === "" ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}
