import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import typescript from "typescript";

const compilerOptions = {
  module: typescript.ModuleKind.ESNext,
  target: typescript.ScriptTarget.ES2023,
  verbatimModuleSyntax: true,
};

/** Types are taken off and nothing else is done: what the compiler has to say, it says in `npm run check`. */
export async function load(url, context, nextLoad) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return nextLoad(url, context);
  const { outputText } = typescript.transpileModule(readFileSync(fileURLToPath(url), "utf8"), { compilerOptions });
  return { format: "module", source: outputText, shortCircuit: true };
}
