import { expect, test } from "vitest";
import { parseDownwardMap } from "./downward-map.ts";

test("lines as the downward API writes them", () => {
  const text = [
    'app="httpbin"',
    'example.org/a="b=c"',
    'empty=""',
    String.raw`odd="q\"t\\\n\u00e9\x41\U0001f600"`,
    "",
  ].join("\n");
  expect(parseDownwardMap(text)).toEqual({
    app: "httpbin",
    "example.org/a": "b=c",
    empty: "",
    odd: 'q"t\\\né' + "A😀",
  });
  expect(parseDownwardMap("")).toEqual({});
});

for (const text of ["app", "app=httpbin", '="x"', 'app="x', 'a="b"\napp="x"y'])
  test(`not ${JSON.stringify(text)}`, () => expect(parseDownwardMap(text)).toMatch(/^line \d is not/));
