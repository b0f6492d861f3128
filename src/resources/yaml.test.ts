import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatViolation, readResources } from "./index.ts";

const codesOf = (text: string) =>
  readResources(text, { cluster: "c1", file: "f.yaml" }).violations.map(({ line, column, path, code }) =>
    `${line}:${column} ${path} ${code}`.replace("  ", " "),
  );

const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghij"
  .split("")
  .map((key, index) => `${key}: &${key} [${`*${"abcdefghi"[index]},`.repeat(9)}]`)
  .join("\n")}\n`;

const hostile = [
  { it: "an alias bomb", text: bomb, gets: "ISM0104" },
  { it: "an alias of itself", text: "a: &a [*a]", gets: "1:8 a[0] ISM0104" },
  { it: "lists 10,000 deep", text: "- ".repeat(10_000), gets: "ISM0103" },
  {
    it: "mappings 10,000 deep",
    text: Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
    gets: "ISM0103",
  },
  { it: "530 KB of nested brackets", text: "[".repeat(265_000) + "]".repeat(265_000), gets: "1:104 ISM0103" },
  { it: "a key that stands twice", text: "a: 1\nb: 2\na: 3\n", gets: "3:1 a ISM0105" },
  {
    it: "20,000 keys that are different",
    text: Array.from({ length: 20_000 }, (_, i) => `k${i}: 1`).join("\n"),
    gets: "ISM0201",
  },
  { it: "100 MB", text: "x".repeat(100_000_000), gets: "1:1 ISM0102" },
  { it: "a NUL", text: "a: 1\nb: \0\n", gets: "2:4 ISM0101" },
  { it: "a byte order mark in the middle", text: "a: 1\nb: \uFEFF1\n", gets: "2:4 ISM0101" },
  { it: "tabs as indentation", text: "a:\n\tb: 1\n", gets: "2:1 ISM0101" },
  { it: "the key __proto__", text: "a:\n  __proto__: {polluted: 1}\n", gets: "2:3 a.__proto__ ISM0106" },
  { it: "the key constructor", text: "constructor: {prototype: {polluted: 1}}", gets: "1:1 constructor ISM0106" },
  { it: "__proto__ by a merge", text: "b: &b {x: 1}\n__proto__: *b\n", gets: "2:1 __proto__ ISM0106" },
  { it: "1e400", text: "a: 1e400", gets: "1:4 a ISM0108" },
  { it: "not a number", text: "a: .nan", gets: "1:4 a ISM0108" },
  { it: "a function", text: "a: !!js/function 'function () {}'", gets: "1:4 ISM0107" },
];

describe("hostile text", () => {
  for (const { it, text, gets } of hostile) {
    test(`${it} is refused with its place, in time`, () => {
      // CPU time: the machine may be busy with other things.
      const before = process.cpuUsage();
      const heap = process.memoryUsage().rss;
      expect(codesOf(text)[0]).toContain(gets);
      expect(process.cpuUsage(before).user / 1000).toBeLessThan(2000);
      expect(process.memoryUsage().rss - heap).toBeLessThan(300e6);
      expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    });
  }

  test("more documents than the limit are refused", () => {
    const limits = { textLength: 1e6, documents: 3, depth: 100, aliasedValues: 100 };
    const { violations } = readResources("a: 1\n---\n".repeat(5), { cluster: "c", limits });
    expect(violations.at(-1)?.code).toBe("ISM0109");
  });
});

const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
const fine = [
  { it: "a byte order mark in front", text: `\uFEFF${namespace}`, names: ["a"] },
  {
    it: "JSON indented with tabs",
    text: '{\n\t"apiVersion": "v1",\n\t"kind": "Namespace",\n\t"metadata": {"name": "a"}\n}',
    names: ["a"],
  },
  { it: "carriage returns", text: namespace.replaceAll("\n", "\r\n"), names: ["a"] },
  { it: "directives and end markers", text: `%YAML 1.2\n---\n${namespace}...\n# end\n`, names: ["a"] },
  { it: "empty documents", text: `---\n---\n# nothing\n---\n${namespace}---\n`, names: ["a"] },
  { it: "a document behind one that is broken", text: `a: [\n---\n${namespace}`, names: ["a"] },
  {
    it: "a document marker inside a text block",
    text: `${namespace}---\nx: |\n  --- no\n---\n${namespace.replace("a}", "b}")}`,
    names: ["a", "b"],
  },
  {
    it: "a list of objects",
    text: `apiVersion: v1\nkind: List\nitems:\n- ${namespace.replaceAll("\n", "\n  ")}`,
    names: ["a"],
  },
  {
    it: "merge keys",
    text: `apiVersion: v1\nkind: Namespace\nmetadata:\n  <<: &m {name: a}\n  labels: {x: y}\n`,
    names: ["a"],
  },
  { it: "an entry that says null", text: `${namespace}spec:\n`, names: ["a"] },
];
for (const { it, text, names } of fine) {
  test(`${it} is read`, () => {
    const { resources } = readResources(text, { cluster: "c1" });
    expect(resources.map(({ metadata }) => metadata.name)).toEqual(names);
  });
}

const sample = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, labels: {a: "b"}}
spec:
  hosts: [a.b.global]
  addresses: &x [240.0.0.2]
  ports:
  - {number: 8000, name: http1, protocol: http}
  resolution: DNS
  endpoints:
  - address: 10.0.0.1
    ports: {http1: 15443}
--- # next
apiVersion: v1
kind: Namespace
metadata:
  name: "y"
`;

test("every prefix of a text is read or refused, and nothing is thrown", () => {
  for (let end = 0; end <= sample.length; end++)
    readResources(sample.slice(0, end), { cluster: "c1" }).violations.map(formatViolation);
});

test("a text with arbitrary damage gives violations, never an exception, and stays quick", () => {
  const piece = fc.constantFrom(
    "[",
    "]",
    "{",
    "}",
    ":",
    "- ",
    "\n",
    "---\n",
    "&x ",
    "*x",
    "!!y ",
    "? ",
    "|\n",
    "'",
    '"',
    "\t",
    "#",
    "%",
    "<<: *x\n",
    `$\{A}`,
    "null",
    "~",
    "\u0000",
    "-1",
    "1e9",
  );
  const damage = fc.tuple(fc.nat(sample.length), fc.nat(12), fc.oneof(piece, fc.string()));
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
      let text = sample;
      for (const [at, length, insert] of damages) text = text.slice(0, at) + insert + text.slice(at + length);
      for (const violation of readResources(text, { cluster: "c1", file: "f" }).violations) {
        const line = formatViolation(violation);
        if (!/^f:\d+:\d+: [^\n\r]*\(ISM\d{4}\)$/.test(line))
          throw new Error(`not one line with a place and a code: ${line}`);
      }
    }),
    { numRuns: 1500, interruptAfterTimeLimit: 5000 },
  );
});
