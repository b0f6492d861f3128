// The soak: npm run test:soak -- [--seconds N] [--seed N] [--data-plane embedded|envoy|mixed] [--break route|outage].
// The same seed draws the same chances; what is possible when also depends on how fast the machine is.
// --break shows that it can fail: it breaks something and does not say so.
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const text = { type: "string" };
const { values } = parseArgs({ options: { seconds: text, seed: text, "data-plane": text, break: text } });
for (const name of ["seconds", "seed"]) {
  const given = values[name];
  if (given !== undefined && !/^\d{1,9}$/.test(given)) throw new Error(`--${name}: "${given}" is no whole number`);
}
if (values.seconds !== undefined && (Number(values.seconds) < 10 || Number(values.seconds) > 3600))
  throw new Error("--seconds is from 10 to 3600");

const env = { ...process.env };
for (const [name, value] of Object.entries(values)) {
  env[`ISTHMUS_SOAK_${name.replace("-", "_").toUpperCase()}`] = value;
}
try {
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  execFileSync(process.execPath, [vitest, "run", "--config", "checks/soak/vitest.config.ts"], {
    cwd: root,
    stdio: "inherit",
    env,
  });
} catch (caught) {
  process.exit(caught.status ?? 1);
}
