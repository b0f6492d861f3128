import { z } from "zod";
import { anyCaseLabel, hostname, labelMap, repeats, rule } from "../schema.ts";
import { exportTo, judgeExportTo } from "./export-to.ts";
import { trafficPolicy } from "./traffic-policy.ts";

const fields = z.strictObject({
  host: hostname,
  trafficPolicy: trafficPolicy.optional(),
  subsets: z
    .array(
      z.strictObject({ name: anyCaseLabel, labels: labelMap.default({}), trafficPolicy: trafficPolicy.optional() }),
    )
    .default([]),
  exportTo,
  workloadSelector: z.strictObject({ matchLabels: labelMap.default({}) }).optional(),
});

const unique = rule(fields, ["subsets"], ({ subsets }, report) => {
  for (const { index } of repeats(subsets, ({ name }) => name))
    report(
      ["subsets", index, "name"],
      "ISM0607",
      `another subset has the name "${subsets[index]!.name}"; names must differ`,
    );
});
const spec = rule(unique, ["exportTo"], (value, report) => judgeExportTo(value.exportTo, report, { nobody: false }));

export const destinationRule = z.object({ spec, status: z.unknown().optional() });
