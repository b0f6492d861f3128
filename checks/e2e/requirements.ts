import { test } from "vitest";
import { chooseMode } from "../../src/lab/enclosure.ts";
import type { LabMode } from "../../src/lab/index.ts";

/** What this machine must be able to do, from the environment: `ISTHMUS_REQUIRE=netns,userns`. */
const required = new Set((process.env["ISTHMUS_REQUIRE"] ?? "").split(",").filter(Boolean));

/**
 * `test`, or a skip with its reason where the mode cannot be had here. A mode that ISTHMUS_REQUIRE names is never
 * skipped: there the test runs, and fails.
 */
export async function testIn(mode: LabMode): Promise<typeof test | typeof test.skip> {
  const choice = await chooseMode({ forced: mode, onInstall: () => {} });
  if (!("refused" in choice) || required.has(mode)) return test;
  process.stderr.write(`\nSKIPPED: tests in mode ${mode}: ${choice.refused}\n`);
  return test.skip;
}
