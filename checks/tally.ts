import { appendFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Ends a run with what was skipped and why, and with one plain line of counts. A skip is never silent: whoever reads
 * the end of the output sees it. With `ISTHMUS_TALLY` set, the counts are also added to that file, so that several
 * runs can be summed.
 */
export default class Tally implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let passed = 0;
    let failed = 0;
    const skipped: string[] = [];
    for (const module of modules) {
      if (module.state() === "failed" && [...module.children.allTests()].length === 0) failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") passed++;
        else if (result.state === "failed") failed++;
        else if (result.state === "skipped") skipped.push(`${test.fullName}${result.note ? `: ${result.note}` : ""}`);
      }
    }
    const lines = skipped.length > 0 ? ["", `SKIPPED ${skipped.length}:`, ...skipped.map((line) => `  ${line}`)] : [];
    process.stdout.write(
      `${[...lines, "", `${passed} passed, ${failed} failed, ${skipped.length} skipped`].join("\n")}\n`,
    );
    const sum = process.env["ISTHMUS_TALLY"];
    if (sum) appendFileSync(sum, `${passed} ${failed} ${skipped.length}\n`);
  }
}
