import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** What was made before, by its source; a program of many files starts in a moment then. */
const kept = fileURLToPath(new URL("../../.cache/typescript/", import.meta.url));

let typescript;

/** Types are taken off and nothing else is done: what the compiler has to say, it says in `npm run check`. */
export async function load(url, context, nextLoad) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return nextLoad(url, context);
  const text = readFileSync(fileURLToPath(url), "utf8");
  const file = join(kept, createHash("sha256").update(text).digest("hex"));
  return { format: "module", source: read(file) ?? (await make(text, file)), shortCircuit: true };
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined; // Nobody has needed it yet.
  }
}

async function make(text, file) {
  typescript ??= (await import("typescript")).default;
  const compilerOptions = {
    module: typescript.ModuleKind.ESNext,
    target: typescript.ScriptTarget.ES2023,
    verbatimModuleSyntax: true,
  };
  const { outputText } = typescript.transpileModule(text, { compilerOptions });
  mkdirSync(kept, { recursive: true });
  // Several programs may make the same at once: each puts down a whole one.
  const part = `${file}.${process.pid}`;
  writeFileSync(part, outputText);
  renameSync(part, file);
  return outputText;
}
