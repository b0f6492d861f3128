// Builds dist/ from src/: generated protocol files first, then the compiler, then what the compiler does not copy.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const run = (...args) => execFileSync(process.execPath, args, { cwd: root, stdio: "inherit" });

run("scripts/generate.mjs");
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json");
mkdirSync(join(root, "dist/proto"), { recursive: true });
cpSync(join(root, "src/proto/gen"), join(root, "dist/proto/gen"), { recursive: true, filter: (file) => !file.endsWith(".d.ts") });
const main = join(root, "dist/cli/main.js");
if (existsSync(main)) chmodSync(main, 0o755);
