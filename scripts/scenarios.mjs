// Runs the scenario suite: node scripts/scenarios.mjs [--data-plane embedded|envoy|mixed|mixed-reversed]... [--keep] [part of a name]...
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(fileURLToPath(import.meta.url), "../..");
const planes = [];
const parts = [];
const env = { ...process.env };
const args = process.argv.slice(2);
for (let arg = args.shift(); arg !== undefined; arg = args.shift()) {
  if (arg === "--data-plane") planes.push(args.shift());
  else if (arg.startsWith("--data-plane=")) planes.push(arg.slice("--data-plane=".length));
  else if (arg === "--keep") env.ISTHMUS_SCENARIO_KEEP = "1";
  else parts.push(arg);
}
const known = ["embedded", "envoy", "mixed", "mixed-reversed"];
const unknown = planes.find((plane) => !known.includes(plane));
if (unknown !== undefined) {
  console.error(`there is no data plane "${unknown}"; there is ${known.join(", ")}`);
  process.exit(2);
}
if (parts.length > 0) env.ISTHMUS_SCENARIOS = parts.join(",");
const files = (planes.length > 0 ? planes : known).map((plane) => `checks/scenarios/run/${plane}.test.ts`);
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const ran = spawnSync(process.execPath, [vitest, "run", "--config", "checks/scenarios/vitest.config.ts", ...files], {
  cwd: root,
  env,
  stdio: "inherit",
});
process.exit(ran.status ?? 1);
