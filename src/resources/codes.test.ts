import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { codes } from "./index.ts";

const documented = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");

for (const [code, { severity, says }] of Object.entries(codes)) {
  test(`${code} stands in docs/errors.md with its severity and sentence`, () => {
    expect(documented).toContain(`| \`${code}\` | ${severity} | ${says} |`);
  });
}
