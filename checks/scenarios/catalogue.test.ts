import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { certificateValue } from "../../scenarios/certificates.ts";
import { differences } from "../../scenarios/differences.ts";
import { dataPlanes } from "../../src/lab/index.ts";
import { scenariosFolder } from "./places.ts";
import { readScenario, readScenarios } from "./read.ts";

const scenarios = readScenarios(scenariosFolder);

/** The first column of the table in the README. */
const capabilities = [
  ...readFileSync(join(scenariosFolder, "README.md"), "utf8")
    .split("<!-- capabilities -->")[1]!
    .split("<!-- /capabilities -->")[0]!
    .matchAll(/^\| `([a-z-]+)` \|/gm),
].map(([, name]) => name!);

test("every scenario shows capabilities that the README lists", () => {
  const unknown = scenarios.flatMap(({ name, shows }) =>
    shows.filter((capability) => !capabilities.includes(capability)).map((capability) => `${name}: ${capability}`),
  );
  expect(unknown).toEqual([]);
});

test("every capability that the README lists is shown by a scenario", () => {
  const shown = new Set(scenarios.flatMap(({ shows }) => shows));
  expect(capabilities.length).toBeGreaterThan(25);
  expect(capabilities.filter((capability) => !shown.has(capability))).toEqual([]);
});

test("there are at least 120 scenarios", () => {
  expect(scenarios.length).toBeGreaterThanOrEqual(120);
});

test("a difference is of a scenario that is there and runs with that data plane, and has a reason", () => {
  for (const { scenario, dataPlane, reason, what } of differences) {
    const found = scenarios.find(({ name }) => name === scenario);
    expect(found, scenario).toBeDefined();
    expect(dataPlanes).toContain(dataPlane);
    expect(reason.length, scenario).toBeGreaterThan(20);
    expect(what.length, scenario).toBeGreaterThan(10);
  }
});

test("a scenario that leaves a data plane out says why in the table of differences", () => {
  for (const { name, only } of scenarios) {
    const left = only ? dataPlanes.filter((dataPlane) => !only.includes(dataPlane)) : [];
    for (const dataPlane of left)
      expect(
        differences.some((one) => one.scenario === name && one.dataPlane === dataPlane),
        `${name} without ${dataPlane}`,
      ).toBe(true);
  }
});

test("all that is wrong with a scenario is said at once, each at its place", () => {
  const text = [
    "title: wrong",
    "shows: []",
    "clusters:",
    "  cluster1:",
    "  - {kind: Service, metadata: {name: a}}",
    "steps:",
    "- from: sleep",
    "  http: {url: nowhere}",
    "  expect: {stauts: 200}",
  ].join("\n");
  const read = readScenario(text, "a/wrong.yaml");
  expect("mistakes" in read && read.mistakes).toEqual([
    expect.stringMatching(/^a\/wrong\.yaml:2:8: shows: /),
    expect.stringMatching(/^a\/wrong\.yaml:5:5: clusters\.cluster1\.0\.apiVersion: /),
    expect.stringMatching(/^a\/wrong\.yaml:7:9: steps\.0\.from: must be <cluster>\/<workload>/),
    expect.stringMatching(/^a\/wrong\.yaml:8:15: steps\.0\.http\.url: /),
    expect.stringMatching(/^a\/wrong\.yaml:9:11: steps\.0\.expect: .*stauts/),
  ]);
});

const contradictory = [
  { it: "calls nobody", text: "title: a\nshows: [dns]\n", says: /calls nobody/ },
  {
    it: "expects nothing",
    text: "title: a\nshows: [dns]\nsteps:\n- {from: cluster1/sleep, dns: {name: a}, expect: {}}\n",
    says: /expects nothing/,
  },
  {
    it: "asks for a share of one call",
    text: "title: a\nshows: [dns]\nsteps:\n- {from: cluster1/sleep, dns: {name: a}, expect: {distinct: {by: pod, count: 1}}}\n",
    says: /a share of one call/,
  },
  {
    it: "makes two kinds of call in one",
    text: 'title: a\nshows: [dns]\nsteps:\n- {from: cluster1/sleep, dns: {name: a}, tcp: {to: "a:1", send: x}, expect: {error: dns}}\n',
    says: /one kind of call/,
  },
];
for (const { it, text, says } of contradictory) {
  test(`a scenario that ${it} is refused`, () => {
    const read = readScenario(text, "a/b.yaml");
    expect("mistakes" in read && read.mistakes.join("\n")).toMatch(says);
  });
}

test("a certificate is the same each time it is asked for, and an unknown one is named", () => {
  expect(certificateValue("CERT", "shop")).toBe(certificateValue("CERT", "shop"));
  expect(certificateValue("CA", "shop")).toBe(certificateValue("CERT", "public"));
  expect(() => certificateValue("KEY", "nothing")).toThrow(/there is no certificate "nothing"; there is shop/);
});
