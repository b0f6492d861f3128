import fc from "fast-check";
import { expect, test } from "vitest";
import type { Ip } from "../../values/index.ts";
import type { Balancing } from "../config/balancing.ts";
import type { OutlierRules } from "../config/cluster.ts";
import { type BalancerFacts, buildBalancer, hashText, type Level, levelShares } from "./balancer.ts";
import { eject, innocent, isOutlier, mayEject, nextOutlierState } from "./outlier.ts";
import type { Endpoint, Outcome } from "./upstream.ts";

const endpoint = (name: string, weight = 1, priority = 0): Endpoint => ({
  address: { ip: name as Ip, port: 1 },
  key: name,
  weight,
  priority,
  metadata: {},
});

/** The same chances in every run. */
function chances(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function counts(
  levels: readonly Level[],
  facts: Partial<BalancerFacts> & { readonly balancing: Balancing },
  times = 6000,
) {
  const balancer = buildBalancer(levels, {
    weighLocalities: false,
    panicThreshold: 50,
    overprovisioning: 140,
    healthy: () => true,
    active: () => 0,
    warmth: () => 1,
    random: chances(),
    ...facts,
  });
  const found: Record<string, number> = {};
  for (let i = 0; i < times; i++) {
    const key = balancer.pick({})?.key ?? "none";
    found[key] = (found[key] ?? 0) + 1;
  }
  return found;
}

const one = (...endpoints: Endpoint[]): Level => ({ groups: [{ weight: undefined, endpoints }] });
const near = (value: number | undefined, wanted: number) => expect(Math.abs((value ?? 0) - wanted)).toBeLessThan(200);

test("round robin gives each its turn", () => {
  expect(
    counts([one(endpoint("a"), endpoint("b"), endpoint("c"))], { balancing: { kind: "round-robin" } }, 300),
  ).toEqual({ a: 100, b: 100, c: 100 });
});

test("round robin keeps to weights exactly, and does not bunch the heavy one", () => {
  const levels = [one(endpoint("a", 5), endpoint("b", 1), endpoint("c", 1))];
  expect(counts(levels, { balancing: { kind: "round-robin" } }, 700)).toEqual({ a: 500, b: 100, c: 100 });
});

test("random keeps to weights in the long run", () => {
  const found = counts([one(endpoint("a", 2), endpoint("b", 1))], { balancing: { kind: "random" } });
  near(found["a"], 4000);
});

test("least request prefers the one that does less", () => {
  const found = counts([one(endpoint("busy"), endpoint("idle"))], {
    balancing: { kind: "least-request", choices: 2 },
    active: ({ key }) => (key === "busy" ? 10 : 0),
  });
  near(found["idle"], 4500);
});

test("a ring keeps a hash with its endpoint while others come and go", () => {
  const all = ["a", "b", "c", "d"].map((name) => endpoint(name));
  const facts = {
    balancing: { kind: "ring-hash", minSize: 1024, maxSize: 8192 } as const,
    weighLocalities: false,
    panicThreshold: 50,
    overprovisioning: 140,
    healthy: () => true,
    active: () => 0,
    warmth: () => 1,
    random: chances(),
  };
  const [before, after] = [buildBalancer([one(...all)], facts), buildBalancer([one(...all.slice(0, 3))], facts)];
  let moved = 0;
  for (let i = 0; i < 1000; i++) {
    const hash = hashText(`user-${i}`);
    const was = before.pick({ hash })!.key;
    expect(before.pick({ hash })!.key).toBe(was);
    if (was !== "d" && after.pick({ hash })!.key !== was) moved++;
  }
  expect(moved).toBe(0);
});

const shares: ReadonlyArray<readonly [string, readonly number[], readonly number[]]> = [
  ["all healthy: the first takes everything", [1, 1], [100, 0]],
  ["72 % healthy is still everything", [0.72, 1], [100, 0]],
  ["half healthy takes 70 %", [0.5, 1], [70, 30]],
  ["nothing healthy falls to the next", [0, 1], [0, 100]],
  ["what all can carry together is scaled to everything", [0.25, 0.25], [50, 50]],
  ["nobody healthy: the first", [0, 0], [100, 0]],
];
for (const [name, fractions, wanted] of shares)
  test(`priorities: ${name}`, () => expect(levelShares(fractions, 140).map(Math.round)).toEqual(wanted));

test("fewer healthy ones than the panic threshold: health is ignored", () => {
  const endpoints = ["a", "b", "c", "d"].map((name) => endpoint(name));
  const healthy = ({ key }: Endpoint) => key === "a";
  const balancing = { kind: "round-robin" } as const;
  expect(Object.keys(counts([one(...endpoints)], { balancing, healthy })).sort()).toEqual(["a", "b", "c", "d"]);
  expect(Object.keys(counts([one(...endpoints)], { balancing, healthy, panicThreshold: 0 }))).toEqual(["a"]);
});

test("with a threshold of 0 and nobody healthy there is none", () => {
  expect(
    counts([one(endpoint("a"))], { balancing: { kind: "random" }, healthy: () => false, panicThreshold: 0 }, 10),
  ).toEqual({ none: 10 });
});

test("localities share by weight, and one that lost endpoints gives up in proportion", () => {
  const level: Level = {
    groups: [
      { weight: 3, endpoints: [endpoint("a1"), endpoint("a2")] },
      { weight: 1, endpoints: [endpoint("b1")] },
    ],
  };
  const facts = { balancing: { kind: "random" } as const, weighLocalities: true };
  const found = counts([level], facts, 8000);
  near((found["a1"] ?? 0) + (found["a2"] ?? 0), 6000);
  const lost = counts([level], { ...facts, healthy: ({ key }) => key !== "a2" }, 8000);
  near(lost["a1"], (8000 * 3 * 0.7) / (3 * 0.7 + 1));
});

test("what was tried is avoided as long as anything else is there", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 5 }), fc.nat(), (size, tried, seed) => {
      const endpoints = Array.from({ length: size }, (_, index) => endpoint(`e${index}`));
      const avoid = new Set(endpoints.slice(0, tried).map(({ key }) => key));
      const balancer = buildBalancer([one(...endpoints)], {
        balancing: { kind: "round-robin" },
        weighLocalities: false,
        panicThreshold: 50,
        overprovisioning: 140,
        healthy: () => true,
        active: () => 0,
        warmth: () => 1,
        random: chances(seed),
      });
      const picked = balancer.pick({ avoid })!;
      if (avoid.size < size) expect(avoid.has(picked.key)).toBe(false);
    }),
  );
});

test("an endpoint that warms up gets its turn as often as it is warm", () => {
  const slowStart = { windowMs: 1000, aggression: 1, leastPercent: 10 };
  const levels = [{ groups: [{ weight: undefined, endpoints: [endpoint("cold"), endpoint("warm")] }] }];
  const warmth = ({ key }: { readonly key: string }) => (key === "cold" ? 0.25 : 1);
  const found = counts(levels, { balancing: { kind: "round-robin", slowStart }, warmth });
  // A quarter against a whole: one in five.
  expect(found["cold"]! / 6000).toBeCloseTo(0.2, 1);
});

test("priorities that were tried are passed over as long as another has something", () => {
  const levels = ["near", "far"].map((key) => ({ groups: [{ weight: undefined, endpoints: [endpoint(key)] }] }));
  const balancer = buildBalancer(levels, {
    balancing: { kind: "random" },
    weighLocalities: false,
    panicThreshold: 0,
    overprovisioning: 140,
    healthy: () => true,
    active: () => 0,
    warmth: () => 1,
    random: chances(),
  });
  const picked = (...tried: number[]) => balancer.pick({ avoidLevels: new Set(tried) })?.key;
  expect([picked(), picked(0), picked(0, 1)]).toEqual(["near", "far", "near"]);
});

const rules: OutlierRules = {
  consecutive5xx: 3,
  consecutiveGatewayErrors: 2,
  consecutiveLocalErrors: 1,
  splitLocal: false,
  baseEjectionMs: 1000,
  maxEjectionMs: 2500,
  maxEjectionPercent: 50,
  always: true,
  readmitWell: true,
};
const after = (outcomes: readonly Outcome[], given = rules) =>
  outcomes.reduce((state, outcome) => nextOutlierState(state, outcome, given), innocent);
const outliers: ReadonlyArray<readonly [string, readonly Outcome[], boolean]> = [
  ["three server errors in a row", ["server-error", "server-error", "server-error"], true],
  ["a success between them", ["server-error", "server-error", "success", "server-error"], false],
  ["two gateway errors", ["gateway-error", "gateway-error"], true],
  ["two failed connections", ["connect-failure", "connect-failure"], true],
  ["callers that went away", ["cancelled", "cancelled", "cancelled"], false],
];
for (const [name, outcomes, wanted] of outliers)
  test(`${name}: ${wanted ? "left out" : "kept"}`, () => expect(isOutlier(after(outcomes), rules)).toBe(wanted));

test("each time it is left out for longer, up to the maximum", () => {
  let state = innocent;
  const times = [];
  for (let i = 0, now = 0; i < 4; i++, now = state.ejectedUntilMs!) {
    state = eject(state, rules, now);
    times.push(state.ejectedUntilMs! - now);
  }
  expect(times).toEqual([1000, 2000, 2500, 2500]);
});

test("one may always be left out, more only below the percentage", () => {
  expect(mayEject({ ejected: 0, total: 10 }, { ...rules, maxEjectionPercent: 10 })).toBe(true);
  expect(mayEject({ ejected: 1, total: 10 }, { ...rules, maxEjectionPercent: 10 })).toBe(false);
  expect(mayEject({ ejected: 1, total: 4 }, rules)).toBe(true);
  expect(mayEject({ ejected: 0, total: 4 }, { ...rules, maxEjectionPercent: 10, always: false })).toBe(false);
});
