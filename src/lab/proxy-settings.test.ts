import { expect, test } from "vitest";
import { concurrencyOf } from "./proxy-settings.ts";

const rows = [
  { it: "no annotation", given: undefined, gets: undefined },
  { it: "a number", given: "concurrency: 2", gets: 2 },
  { it: "all cores", given: "concurrency: 0\n", gets: 0 },
  { it: "JSON, which is YAML", given: '{"concurrency": 4}', gets: 4 },
  { it: "other settings only", given: "drainDuration: 5s", gets: undefined },
  { it: "null", given: "concurrency: null", gets: undefined },
] as const;
for (const { it, given, gets } of rows) {
  test(`${it} gets ${gets}`, () => {
    expect(concurrencyOf(given === undefined ? {} : { "proxy.istio.io/config": given })).toBe(gets);
  });
}

const wrong = [
  { it: "a word", given: "concurrency: many", says: /from 0 to 1024, got "many"/ },
  { it: "less than none", given: "concurrency: -1", says: /got -1/ },
  { it: "half a worker", given: "concurrency: 1.5", says: /got 1\.5/ },
  { it: "a text that is no mapping", given: "two", says: /"two" is no YAML mapping/ },
] as const;
for (const { it, given, says } of wrong) {
  test(`${it} is refused`, () => expect(() => concurrencyOf({ "proxy.istio.io/config": given })).toThrow(says));
}
