import { performance } from "node:perf_hooks";
import { expect, test } from "vitest";
import { fuzz } from "../../fuzz/fuzz.ts";
import { targets } from "../../fuzz/targets.ts";

// Briefly, and the same each time; `npm run fuzz -- NAME 3600` for longer.
for (const target of targets)
  test(`damaged input to "${target.name}" is read or refused`, async () => {
    const { runs, findings } = await fuzz(target, { seed: 20261123, forMs: 700, now: () => performance.now() });
    expect(findings.map(({ input, why }) => `${input.toString("base64").slice(0, 400)}: ${why}`)).toEqual([]);
    expect(runs).toBeGreaterThan(20);
  });
