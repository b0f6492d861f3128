import { expect, test } from "vitest";
import { jsonPatch } from "./patch.ts";

const cases: readonly (readonly [string, unknown, unknown, readonly object[]])[] = [
  ["nothing", { a: [1, { b: 2 }] }, { a: [1, { b: 2 }] }, []],
  ["a key more", { a: {} }, { a: { b: 1 } }, [{ op: "add", path: "/a/b", value: 1 }]],
  ["a key less", { a: 1, b: 2 }, { b: 2 }, [{ op: "remove", path: "/a" }]],
  ["a key that is absent by being undefined", { a: 1 }, { a: undefined }, [{ op: "remove", path: "/a" }]],
  ["a list as a whole", { a: [1] }, { a: [1, 2] }, [{ op: "replace", path: "/a", value: [1, 2] }]],
  ["null for an object", { a: null }, { a: {} }, [{ op: "replace", path: "/a", value: {} }]],
  [
    "keys with a slash and a tilde",
    { a: {} },
    { a: { "x.io/~y": "1" } },
    [{ op: "add", path: "/a/x.io~1~0y", value: "1" }],
  ],
];

for (const [it, before, after, patch] of cases) test(it, () => expect(jsonPatch(before, after)).toEqual(patch));
