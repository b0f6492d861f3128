import { expect, test } from "vitest";
import { growing, holding, type Sample } from "./memory.ts";

function life(rssMb: (second: number) => number): readonly Sample[] {
  return Array.from({ length: 40 }, (_, n) => ({
    at: n * 2_000,
    pid: 1,
    role: "proxy of cluster1 a",
    rssMb: rssMb(n * 2),
    descriptors: 40,
  }));
}

test("memory that goes up and down, and memory that grew at the start, is flat", () => {
  expect(growing(life((second) => 100 + (second % 10) * 5))).toEqual([]);
  expect(growing(life((second) => Math.min(300, 80 + second * 20)))).toEqual([]);
});

test("memory that grows all the while is told of", () => {
  expect(growing(life((second) => 100 + second * 3))).toEqual(["proxy of cluster1 a: from 160 MB to 250 MB"]);
});

test("descriptors that stay when all is at rest are told of", () => {
  const [one] = life(() => 100);
  expect(holding([one!], [{ ...one!, descriptors: 100 }])).toEqual([]);
  expect(holding([one!], [{ ...one!, descriptors: 200 }])).toEqual(["proxy of cluster1 a: 200 descriptors, 40 before"]);
});
