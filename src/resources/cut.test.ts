import { expect, test } from "vitest";
import { cutObjects } from "./cut.ts";
import { plainObjects } from "./plain.ts";
import { readResources } from "./read.ts";

const entry = (name: string) => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: ${name}
  namespace: foo
spec:
  hosts: [${name}.example]
  # A comment inside.
  ports:
  - number: 80
    name: http
    protocol: HTTP
`;
const indented = (text: string) => text.trimEnd().replaceAll("\n", "\n  ");
const list = `apiVersion: v1
kind: List
items:
- ${indented(entry("one"))}
- ${indented(entry("two"))}
- ${indented(entry("three"))}
`;
const json = JSON.stringify(
  { kind: "List", items: ["one", "two", "three"].flatMap((n) => plainObjects(entry(n))) },
  null,
  1,
);
const texts = [
  { it: "documents", text: `# On top.\n${["one", "two", "three"].map(entry).join("---\n")}` },
  { it: "documents with marks around each", text: `---\n${["one", "two", "three"].map(entry).join("...\n---\n")}` },
  { it: "a list", text: list },
  { it: "a list after a document", text: `${entry("zero")}---\n${list}` },
  { it: "JSON", text: json },
  { it: "JSON on one line", text: JSON.stringify(JSON.parse(json)) },
];

const named = (name: string) => (object: Readonly<Record<string, unknown>>) =>
  (object["metadata"] as { name?: unknown }).name === name;
const places = (text: string) => {
  const { resources, violations } = readResources(text, { cluster: "c1", file: "f" });
  expect(violations).toEqual([]);
  return resources.map(({ metadata, origin }) => `${metadata.name} at ${origin.line}`);
};

for (const { it, text } of texts) {
  for (const gone of ["one", "two", "three"]) {
    test(`"${gone}" is cut from ${it}, and the others stay where they are`, () => {
      const before = places(text);
      const cut = cutObjects(text, named(gone));
      expect(places(cut)).toEqual(before.filter((place) => !place.startsWith(`${gone} `)));
      expect(cut.split("\n").length).toBe(text.split("\n").length);
      expect(cut).not.toContain(`${gone}.example`);
    });
  }
}

test("nothing is touched where nothing goes, nor in a text that is no YAML", () => {
  expect(cutObjects(list, named("four"))).toBe(list);
  expect(cutObjects("{{{", () => true)).toBe("{{{");
});
