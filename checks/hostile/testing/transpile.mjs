// Turns the project's TypeScript into plain JavaScript under .cache/hostile, types unchecked and only what changed, so
// that a test can run parts of it as a process of its own on any Node.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const out = join(root, ".cache/hostile");

/** Folders that processes are made of. */
const folders = ["src", "checks/hostile/testing", "fuzz"];

/** Returns where the JavaScript of `path` (relative to the root of the project) is. */
export function transpiled(path) {
  for (const folder of folders) walk(folder);
  const gen = join(out, "src/proto/gen");
  if (!existsSync(gen)) {
    mkdirSync(dirname(gen), { recursive: true });
    symlinkSync(join(root, "src/proto/gen"), gen);
  }
  return join(out, path.replace(/\.ts$/, ".js"));
}

function walk(folder) {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (path === "src/proto/gen") continue;
    if (entry.isDirectory()) walk(path);
    else if (path.endsWith(".ts") && !path.endsWith(".test.ts")) one(path);
  }
}

function one(path) {
  const source = join(root, path);
  const target = join(out, path.replace(/\.ts$/, ".js"));
  const { mtimeMs } = statSync(source);
  if (existsSync(target) && statSync(target).mtimeMs > mtimeMs) return;
  const { outputText } = ts.transpileModule(readFileSync(source, "utf8"), {
    fileName: source,
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
    },
  });
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, outputText);
}
