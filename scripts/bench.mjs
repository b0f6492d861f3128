// Builds bench/ together with src/ into .cache/bench and runs it: npm run bench [-- NAME …].
import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
let running;
let stopped = false;
// Whoever ends this ends what it runs, which ends what that started.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    stopped = true;
    running?.kill(signal);
  });
}

function run(...args) {
  return new Promise((done) => {
    running = spawn(process.execPath, args, { cwd: root, stdio: "inherit" });
    running.once("exit", (code, signal) => done(code ?? (signal ? 128 : 1)));
  });
}

for (const step of [["scripts/generate.mjs"], ["node_modules/typescript/bin/tsc", "-p", "tsconfig.bench.json"]]) {
  const status = await run(...step);
  if (status !== 0 || stopped) process.exit(status || 130);
}
cpSync(join(root, "src/proto/gen"), join(root, ".cache/bench/src/proto/gen"), {
  recursive: true,
  filter: (file) => !file.endsWith(".d.ts"),
});
process.exit(await run(".cache/bench/bench/main.js", ...process.argv.slice(2)));
