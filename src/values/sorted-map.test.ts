import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { changesBetween, SortedMap } from "./sorted-map.ts";

const key = fc.integer({ min: 0, max: 400 }).map((at) => `host-${at}`);
const step = fc.array(fc.tuple(key, fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined })), { maxLength: 60 });
const inOrder = (map: ReadonlyMap<string, number>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

describe("a sorted map", () => {
  test("holds what a plain map would, in order, and leaves the one before as it was", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const plain = new Map<string, number>();
        let sorted = SortedMap.empty<string, number>();
        for (const changes of steps) {
          const [before, was] = [sorted, [...sorted]];
          const old = new Map(plain);
          for (const [name, value] of changes) value === undefined ? plain.delete(name) : plain.set(name, value);
          sorted = sorted.with(changes);
          expect([...sorted]).toEqual(inOrder(plain));
          expect(sorted.size).toBe(plain.size);
          expect([...before]).toEqual(was);
          for (let at = 0; at <= 400; at += 7) expect(sorted.get(`host-${at}`)).toBe(plain.get(`host-${at}`));
          const different = changesBetween(before, sorted);
          expect(new Map(different.map((one) => [one.key, one]))).toEqual(
            new Map(changesBetween(old, plain).map((one) => [one.key, one])),
          );
        }
      }),
      { numRuns: 150 },
    );
  });

  test("has the same runs as an equal one, whatever was done to it before", () => {
    fc.assert(
      fc.property(step, step, (one, two) => {
        const grown = SortedMap.empty<string, number>().with(one).with(two);
        expect(grown.runs).toEqual(SortedMap.from(grown.entries()).runs);
      }),
      { numRuns: 100 },
    );
  });

  test("shares all runs but those around a change", () => {
    const before = SortedMap.from(Array.from({ length: 2_000 }, (_, at) => [`k${at}`, at] as const));
    const after = before.with([["k777", -1]]);
    const shared = new Set(before.runs);
    expect(before.runs.length).toBeGreaterThan(15);
    expect(after.runs.filter((run) => !shared.has(run))).toHaveLength(1);
    expect(before.with([["k777", 777]])).toBe(before);
  });

  test("gives the entries below a prefix", () => {
    const map = SortedMap.from(["a/1", "b/1", "b/2", "b0", "c/1"].map((name, at) => [name, at] as const));
    expect([...map.startingWith("b/")].map(([name]) => name)).toEqual(["b/1", "b/2"]);
    expect([...map.startingWith("d/")]).toEqual([]);
  });
});
