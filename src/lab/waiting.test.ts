import { expect, test } from "vitest";
import { waitingLine } from "./waiting.ts";

const of = (cluster: string, workload: string, failing = false) => ({ cluster, workload, why: "no\nmore", failing });

const rows = [
  { it: "nothing", unready: [], line: "" },
  {
    it: "what starts, by cluster",
    unready: [
      of("c1", "isthmus-ingressgateway"),
      of("c1", "sleep"),
      of("c2", "isthmus-egressgateway"),
      of("c2", "httpbin"),
      of("c2", "httpbin"),
    ],
    line: "c1: gateway, sleep · c2: egress gateway, httpbin: starting",
  },
  {
    it: "what goes wrong, before what starts",
    unready: [of("c1", "sleep"), of("c2", "httpbin", true)],
    line: "c2: httpbin: no · c1: sleep: starting",
  },
];
for (const { it, unready, line } of rows) test(`told: ${it}`, () => expect(waitingLine(unready)).toBe(line));
