import { cpSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type DataPlane, dataPlanes } from "../../src/lab/index.ts";
import { belongings, nothingLeft } from "../e2e/belongings.ts";
import { upLab } from "../e2e/lab.ts";
import { needs } from "../requirements.ts";
import { chanceFrom } from "./random.ts";
import { type Break, soak } from "./soak.ts";
import { writeWorld } from "./world.ts";

const setting = (name: string, fallback: string) => process.env[`ISTHMUS_SOAK_${name}`] || fallback;
const seconds = Number(setting("SECONDS", "120"));
const seed = Number(setting("SEED", String(Math.floor(Math.random() * 2 ** 31))));
const dataPlane = setting("DATA_PLANE", "embedded") as DataPlane;
const breaking = setting("BREAK", "none") as Break;
if (!dataPlanes.includes(dataPlane)) throw new Error(`ISTHMUS_SOAK_DATA_PLANE is one of ${dataPlanes.join(", ")}`);

test(`${seconds} s of changes, killings and rotations with ${dataPlane}, under load`, async (context) => {
  needs(context, "root", "netns", "iptables", ...(dataPlane === "embedded" ? [] : (["envoy"] as const)));
  const print = (line: string) => process.stdout.write(`soak: ${line}\n`);
  print(`seed ${seed}, ${seconds} s, data plane ${dataPlane}; again: npm run test:soak -- --seed ${seed}`);
  const dir = mkdtempSync(join(tmpdir(), "isthmus-soak-"));
  writeWorld(dir);
  const up = ["--mode", "netns", "--data-plane", dataPlane, "--workload-cert-ttl", "40s"];
  try {
    const lab = await upLab({ name: `soak-${dataPlane}`, folder: dir, args: up, timeoutMs: 240_000 });
    const { stateFolder: folder } = await lab.status();
    const before = belongings(folder);
    try {
      const report = await soak({
        lab,
        chance: chanceFrom(seed),
        seconds,
        envoyIn: (cluster) => dataPlane === "envoy" || (dataPlane === "mixed" && cluster === "cluster2"),
        breaking,
        print,
      });
      const { wrong, failed, problems, ...rest } = report;
      print(JSON.stringify({ seed, ...rest, wrong: wrong.length, failed: failed.length }));
      for (const line of [...wrong, ...failed].slice(0, 40)) print(line);
      if (wrong.length + failed.length + problems.length > 0) {
        const kept = mkdtempSync(join(tmpdir(), "isthmus-soak-logs-"));
        cpSync(folder, kept, {
          recursive: true,
          filter: (path) => statSync(path).isDirectory() || path.endsWith(".log"),
        });
        print(`what the processes said is kept in ${kept}`);
      }
      expect({ wrong: wrong.slice(0, 20), failed: failed.slice(0, 20), problems }).toEqual({
        wrong: [],
        failed: [],
        problems: [],
      });
      // It proves nothing if little was asked, or most of it was excused.
      const excused = Object.values(report.exempt).reduce((sum, count) => sum + count, 0);
      expect(report.right).toBeGreaterThan(seconds * 3);
      expect(excused + report.rightlyNone).toBeLessThan(report.requests / 4);
    } finally {
      await lab.down();
    }
    await nothingLeft({ folder }, before);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
