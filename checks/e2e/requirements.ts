import { test } from "vitest";
import { chooseMode } from "../../src/lab/enclosure.ts";
import type { LabMode } from "../../src/lab/index.ts";

/** What this machine must be able to do, from the environment: `ISTHMUS_REQUIRE=netns,userns`. */
const required = new Set((process.env["ISTHMUS_REQUIRE"] ?? "").split(",").filter(Boolean));

/** Registers one test. */
export type Register = (name: string, run: () => void | Promise<void>, timeoutMs?: number) => void;

/**
 * How to register a test of a mode: as it is, or as a skip with its reason where the mode cannot be had here. A mode
 * that ISTHMUS_REQUIRE names (or `all`) is never skipped: there the test runs, and fails.
 */
export async function testIn(mode: LabMode): Promise<Register> {
  const choice = await chooseMode({ forced: mode, onInstall: () => {} });
  if (!("refused" in choice) || required.has(mode) || required.has("all")) return test;
  return (name) => test(name, ({ skip }) => skip(`needs mode "${mode}": ${choice.refused}`));
}
