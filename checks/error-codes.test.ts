import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const written = readFileSync(join(root, "docs/errors.md"), "utf8");
const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .map((file) => file.split("\\").join("/"))
  .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
  .filter(
    (file) => !file.startsWith("proto/gen/") && !file.startsWith("testing/") && !/\/(testdata|testing)\//.test(file),
  )
  .map((file) => ({ file, text: readFileSync(join(root, "src", file), "utf8") }));

/**
 * The codes that a source gives to failures: what stands as first argument of `new Failure(` and `grpcFailure(`, a choice
 * between two included, and what is written to a field named `code`. Of a template the part before its first hole, with a
 * star behind it.
 */
function codesIn(text: string): readonly string[] {
  const codes: string[] = [];
  const literal = /"([^"\n]*)"|`([^`\n]*)`/g;
  const take = (expression: string, prefix = "") => {
    for (const [, plain, template] of expression.matchAll(literal)) {
      const code = prefix + (plain ?? template ?? "").replace(/\$\{.*$/, "*");
      if (/^[a-z0-9]+\/[a-z-]*\*?$/.test(code)) codes.push(code);
    }
  };
  for (const call of text.matchAll(/\b(new Failure|grpcFailure)\(/g)) {
    take(firstArgument(text.slice(call.index + call[0].length)), call[1] === "grpcFailure" ? "grpc/" : "");
  }
  for (const [, value] of text.matchAll(/\b#?code(?::| =) ((?:"[^"\n]*"|`[^`\n]*`))/g)) take(value ?? "");
  return codes;
}

/** Up to the comma that ends it, with nested calls passed over. */
function firstArgument(text: string): string {
  let depth = 0;
  let quote = "";
  for (const [at, char] of [...text].entries()) {
    if (quote) quote = char === quote ? "" : quote;
    else if (char === '"' || char === "`") quote = char;
    else if ("([{".includes(char)) depth++;
    else if (char === "," && depth === 0) return [...text].slice(0, at).join("");
    else if (")]}".includes(char) && --depth < 0) return [...text].slice(0, at).join("");
  }
  return text;
}

function isWritten(code: string): boolean {
  return code.endsWith("*") ? written.includes(`\`${code.slice(0, -1)}`) : written.includes(`\`${code}\``);
}

describe("failure codes", () => {
  test("the check sees a plain code, a choice, a template, a gRPC status and a field", () => {
    const text = `
      throw new Failure("a/one", \`why, "b/no"\`);
      throw new Failure(expired ? "a/two" : "a/three", "x");
      throw new Failure(\`a/four-\${kind}\`, "x");
      throw grpcFailure("five", "c/no");
      const refused = { code: "a/six", text: "c/no" };
      throw new Failure(
        "a/seven",
        "x");`;
    expect(codesIn(text).toSorted()).toEqual([
      "a/four-*",
      "a/one",
      "a/seven",
      "a/six",
      "a/three",
      "a/two",
      "grpc/five",
    ]);
  });

  test("every code stands in docs/errors.md", () => {
    const found = sources.flatMap(({ file, text }) => codesIn(text).map((code) => ({ file, code })));
    expect(found.length).toBeGreaterThan(150);
    const missing = found.filter(({ code }) => !isWritten(code)).map(({ file, code }) => `${code} (src/${file})`);
    expect([...new Set(missing)]).toEqual([]);
  });

  test("docs/errors.md has no code that nothing says any more", () => {
    const all = sources.map(({ text }) => text).join("\n");
    const said = (code: string) => {
      // Some codes are put together: from a room's name and a kind, or from the words of an access log.
      const kind = code.replace(/^[a-z]+\/(cacerts-)?/, "").replaceAll("-", "[-_]");
      return all.includes(code) || new RegExp(`\\b${kind}\\b`).test(all);
    };
    const gone = [...written.matchAll(/`([a-z]+\/[a-z-]+)`/g)].map(([, code]) => code!).filter((code) => !said(code));
    expect(gone).toEqual([]);
  });
});
