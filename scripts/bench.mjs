// Builds bench/ together with src/ into .cache/bench and runs it: npm run bench [-- NAME …].
import { spawnSync } from "node:child_process";
import { cpSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status ?? 1;

for (const step of [["scripts/build.mjs"], ["node_modules/typescript/bin/tsc", "-p", "tsconfig.bench.json"]]) {
  const status = run(...step);
  if (status !== 0) process.exit(status);
}
cpSync(join(root, "src/proto/gen"), join(root, ".cache/bench/src/proto/gen"), {
  recursive: true,
  filter: (file) => !file.endsWith(".d.ts"),
});
process.exit(run(".cache/bench/bench/main.js", ...process.argv.slice(2)));
