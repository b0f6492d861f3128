import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Refusal } from "./message.ts";
import { normalPath } from "./path.ts";

const rules = { normalizePath: true, mergeSlashes: false, escapedSlashes: "keep" } as const;
const rows: ReadonlyArray<
  readonly [given: string, expected: string, rules?: Partial<Parameters<typeof normalPath>[1]>]
> = [
  ["/a/b", "/a/b"],
  ["/a/./b", "/a/b"],
  ["/a/../b", "/b"],
  ["/a/..", "/"],
  ["/a/%2e%2E/b", "/b"],
  ["/%61dmin", "/admin"],
  ["/a%2Fb", "/a%2Fb"],
  ["/a%2fb", "/a%2Fb"],
  ["/a%2fb", "/a/b", { escapedSlashes: "unescape" }],
  ["/a\\b", "/a/b"],
  ["/a//b", "/a//b"],
  ["/a//b", "/a/b", { mergeSlashes: true }],
  ["/a;x=1/b", "/a;x=1/b"],
  ["/.well-known/x", "/.well-known/x"],
  ["/a?x=/../%00", "/a?x=/../%00"],
  ["/a/../b?c", "/b?c"],
  ["*", "*"],
];

describe("a path has one spelling", () => {
  for (const [given, expected, more] of rows)
    test(`${given} is ${expected}${more ? ` with ${JSON.stringify(more)}` : ""}`, () =>
      expect(normalPath(given, { ...rules, ...more })).toEqual({ kind: "path", path: expected }));

  for (const given of ["/a%00", "/%", "/%2", "/%zz", "/%c0%af", "/%e0%80%af", "/%f8", "/..", "/a/../../b", "/%2e%2e/"])
    test(`${given} has none`, () => expect(() => normalPath(given, rules)).toThrow(Refusal));

  test("an escaped slash is refused where it must be", () =>
    expect(() => normalPath("/a%5cb", { ...rules, escapedSlashes: "reject" })).toThrow(Refusal));

  test("and that spelling is its own", () => {
    const piece = fc.constantFrom("/", ".", "..", "%2e", "%2F", "a", "%61", "\\", ";", "//", "%25");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        try {
          const once = normalPath(`/${pieces.join("")}`, rules).path;
          expect(normalPath(once, rules).path).toBe(once);
          expect(once).not.toMatch(/\/\.\.?(\/|$)/);
        } catch (caught) {
          expect(caught).toBeInstanceOf(Refusal);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
