import { describe, expect, test } from "vitest";
import { readInjectionSettings } from "./read-settings.ts";
import { defaultInjectionSettings, writeInjectionSettings } from "./settings.ts";

const good = defaultInjectionSettings({
  cluster: "cluster1",
  tag: "1.2.3",
  network: "network1",
  neverInjectSelector: [{ matchExpressions: [{ key: "batch", operator: "Exists" }] }],
});

test("what is written is read again, letter by letter", () => {
  expect(readInjectionSettings(writeInjectionSettings(good))).toEqual({ outcome: "good", settings: good });
});

test("what is left out is as it is by itself, a revision's control plane included", () => {
  const reading = readInjectionSettings(
    '{"version": 1, "cluster": "c", "tag": "t", "revision": "canary", "capture": {}}',
  );
  expect(reading).toEqual({
    outcome: "good",
    settings: defaultInjectionSettings({ cluster: "c", tag: "t", revision: "canary" }),
  });
  expect(reading).toMatchObject({ settings: { discovery: "isthmus-canary.isthmus-system.svc:15012" } });
});

test("everything that is wrong is said at once, with its place", () => {
  const reading = readInjectionSettings(
    JSON.stringify({
      version: 2,
      cluster: "no spaces",
      image: "",
      discovery: "isthmus",
      nativeSidecars: "maybe",
      searchDomains: ["*.global"],
      concurrency: -1,
      resources: { proxy: { requests: { cpu: "much" } } },
      neverInjectSelector: [{}, { matchExpressions: [{ key: "a", operator: "In" }] }],
      capture: { excludeInboundPorts: [0, 80], includeOutboundIPRanges: ["10.0.0.0/33"], excludeOutboundRanges: [] },
      env: { "a b": "c", d: 1 },
      policies: "enabled",
    }),
  );
  if (reading.outcome !== "wrong") throw new Error("it is not");
  expect(reading.problems.map((problem) => problem.split(": ")[0])).toEqual([
    "policies",
    "version",
    "image",
    "tag",
    "cluster",
    "discovery",
    "searchDomains[0]",
    "nativeSidecars",
    "resources.proxy.requests.cpu",
    "concurrency",
    "neverInjectSelector[0]",
    "neverInjectSelector[1].matchExpressions[0].values",
    "capture.excludeOutboundRanges",
    "capture.includeOutboundIPRanges[0]",
    "capture.excludeInboundPorts[0]",
    'env["a b"]',
    "env.d",
  ]);
  expect(reading.problems.join("\n")).toContain('nativeSidecars: must be one of auto, always, never, got "maybe"');
});

describe("what is no object of settings at all", () => {
  for (const text of ["", "{", "null", "[]", '"text"', "1", `{"version":1,"cluster":{"a":[]}}`, " ".repeat(2 ** 21)])
    test(JSON.stringify(text.slice(0, 30)), () => expect(readInjectionSettings(text).outcome).toBe("wrong"));
});
