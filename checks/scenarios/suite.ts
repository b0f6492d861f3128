import { afterAll, beforeAll, describe, test } from "vitest";
import { differences } from "../../scenarios/differences.ts";
import type { DataPlane } from "../../src/lab/index.ts";
import { missingOf, type Requirement } from "../requirements.ts";
import { ScenarioLab } from "./lab.ts";
import { scenariosFolder } from "./places.ts";
import { type NamedScenario, readScenarios } from "./read.ts";
import { runScenario } from "./run.ts";

const needed: readonly Requirement[] = ["root", "netns", "iptables"];

/** A part of a scenario's name or title, from the command line. */
const filter = (process.env["ISTHMUS_SCENARIOS"] ?? "").toLowerCase().split(",").filter(Boolean);

/** Registers a test for each scenario, in a lab that all of them share. */
export function scenarioTests(dataPlane: DataPlane): void {
  const requirements: readonly Requirement[] = dataPlane === "embedded" ? needed : [...needed, "envoy"];
  const scenarios = readScenarios(scenariosFolder).filter(({ only, name, title }) => {
    const wanted = filter.length === 0 || filter.some((part) => `${name} ${title}`.toLowerCase().includes(part));
    return wanted && (only === undefined || only.includes(dataPlane));
  });
  if (scenarios.length === 0) {
    test(`no scenario is of ${dataPlane} and ${filter.join(", ")}`, () => {});
    return;
  }
  const missing = missingOf(requirements);
  describe(dataPlane, () => {
    let lab: ScenarioLab | undefined;
    /** The run before this one, which a test that is over time leaves behind. */
    let before: Promise<unknown> = Promise.resolve();
    beforeAll(async () => {
      if (missing === undefined) lab = await ScenarioLab.up(dataPlane);
    });
    afterAll(async () => {
      if (process.env["ISTHMUS_SCENARIO_KEEP"] !== "1") await lab?.down();
    });
    for (const scenario of scenarios) {
      test(`${scenario.name}: ${scenario.title}`, async ({ skip }) => {
        if (missing !== undefined) skip(missing);
        await before;
        const run = holds(lab!, scenario, dataPlane);
        before = run.catch(() => {});
        await run;
      });
    }
  });
}

/** Where a difference is listed, the scenario must fail: an entry that is no longer true goes. */
async function holds(lab: ScenarioLab, scenario: NamedScenario, dataPlane: DataPlane): Promise<void> {
  const listed = differences.find((one) => one.scenario === scenario.name && one.dataPlane === dataPlane);
  if (!listed) return runScenario(lab, scenario);
  const failed = await runScenario(lab, scenario).then(
    () => false,
    () => true,
  );
  if (!failed) throw new Error(`the difference of ${dataPlane} that is listed is none: "${listed.what}"; take it out`);
}
