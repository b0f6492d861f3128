import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatViolation, readResources } from "../../resources/index.ts";

const folder = join(import.meta.dirname, "../../../samples");
const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".yaml"));

test("there are samples", () => expect(files.length).toBeGreaterThan(10));

for (const file of files) {
  test(`samples/${file} is read without a violation`, () => {
    const text = readFileSync(join(folder, file), "utf8").replaceAll("$" + "{CLUSTER2_GW_ADDR}", "192.0.2.2");
    const { resources, violations } = readResources(text, { file, cluster: "cluster1", defaultNamespace: "default" });
    expect(violations.map(formatViolation)).toEqual([]);
    expect(resources.length).toBeGreaterThan(0);
  });
}
