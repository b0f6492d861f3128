import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

// Where this package lies. The build puts modules together, so that none may reckon from the place of its own source.

const here = dirname(fileURLToPath(import.meta.url));
const root = nearestWith("package.json", here);
/** `dist`, or what another build was named; beside sources, which are not programs, the usual one. */
const built = relative(root, here).split(sep)[0] as string;

/** A file that ships with the package, such as a sample. */
export function packageFile(...path: readonly string[]): string {
  return join(root, ...path);
}

/** A program of the package by its path in `src/`, with the ending that the build gives it. */
export function programFile(...path: readonly string[]): string {
  return join(root, built === "src" ? "dist" : built, ...path);
}

/** The version of the package, as its `package.json` has it. */
export function packageVersion(): string {
  return JSON.parse(readFileSync(packageFile("package.json"), "utf8")).version;
}

function nearestWith(file: string, folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, file))) return at;
    if (dirname(at) === at) throw new Error(`there is no ${file} above ${folder}`);
  }
}
