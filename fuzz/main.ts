import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fuzz } from "./fuzz.ts";
import { targets } from "./targets.ts";

const [name, seconds = "60", seedText] = process.argv.slice(2);
const chosen = name === "all" ? targets : targets.filter((target) => target.name === name);
if (chosen.length === 0) {
  console.error(
    `usage: npm run fuzz -- NAME|all [seconds] [seed]\nnames: ${targets.map((target) => target.name).join(", ")}`,
  );
  process.exit(2);
}
const seed = seedText === undefined ? Date.now() % 0x7fffffff : Number(seedText);
let found = 0;
for (const target of chosen) {
  const forMs = (Number(seconds) * 1000) / chosen.length;
  const { runs, slowestMs, findings } = await fuzz(target, { seed, forMs, now: () => performance.now() });
  console.log(
    `${target.name}: ${runs} inputs, slowest ${slowestMs.toFixed(1)} ms, ${findings.length} findings, seed ${seed}`,
  );
  for (const [index, { input, why }] of findings.entries()) {
    const dir = join(".cache", "fuzz", target.name);
    mkdirSync(dir, { recursive: true });
    const file = join(dir, `${seed}-${index}`);
    writeFileSync(file, input);
    console.log(`  ${file}: ${why.split("\n").slice(0, 3).join(" ")}`);
  }
  found += findings.length;
}
process.exit(found === 0 ? 0 : 1);
