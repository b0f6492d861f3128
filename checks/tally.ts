import { appendFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Ends a run with what was skipped and why, and with one plain line of counts. A skip is never silent: whoever reads
 * the end of the output sees it; nor is a test silent that passed only when it was run again. With `ISTHMUS_TALLY` set, the counts are also added to that file, so that several
 * runs can be summed.
 */
export default class Tally implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let passed = 0;
    let failed = 0;
    const skipped: string[] = [];
    const unsteady: string[] = [];
    for (const module of modules) {
      if (module.state() === "failed" && [...module.children.allTests()].length === 0) failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (test.diagnostic()?.flaky)
          unsteady.push(`${test.fullName}: ${result.errors?.[0]?.message ?? "no reason given"}`);
        if (result.state === "passed") passed++;
        else if (result.state === "failed") failed++;
        else if (result.state === "skipped") skipped.push(`${test.fullName}${result.note ? `: ${result.note}` : ""}`);
      }
    }
    const sum = `${passed} passed, ${failed} failed, ${skipped.length} skipped`;
    const again = unsteady.length > 0 ? `, ${unsteady.length} of them only when run again` : "";
    const lines = [...listed("SKIPPED", skipped), ...listed("RUN AGAIN", unsteady), "", `${sum}${again}`];
    process.stdout.write(`${lines.join("\n")}\n`);
    const tally = process.env["ISTHMUS_TALLY"];
    if (tally) appendFileSync(tally, `${passed} ${failed} ${skipped.length}\n`);
  }
}

function listed(title: string, entries: readonly string[]): readonly string[] {
  return entries.length === 0 ? [] : ["", `${title} ${entries.length}:`, ...entries.map((entry) => `  ${entry}`)];
}
