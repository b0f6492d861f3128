import { z } from "zod";
import { hostname, label, labelMap } from "../schema.ts";
import { exportTo } from "./export-to.ts";
import { trafficPolicy } from "./traffic-policy.ts";

const spec = z.strictObject({
  host: hostname,
  trafficPolicy: trafficPolicy.optional(),
  subsets: z
    .array(z.strictObject({ name: label, labels: labelMap.default({}), trafficPolicy: trafficPolicy.optional() }))
    .default([]),
  exportTo,
  workloadSelector: z.strictObject({ matchLabels: labelMap.default({}) }).optional(),
});

export const destinationRule = z.object({ spec, status: z.unknown().optional() });
