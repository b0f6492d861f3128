import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

// What can be read off the file, without an engine. Building and starting it is `npm run test:image`.
const text = readFileSync(join(import.meta.dirname, "../image/Dockerfile"), "utf8");
const lines = text
  .replaceAll(/\\\n/g, " ")
  .split("\n")
  .filter((line) => line.trim() !== "" && !/^\s*#/.test(line));

interface Stage {
  readonly name: string;
  readonly from: string;
  readonly lines: readonly string[];
}

/** The stages with all that they inherit from stages before. */
function stages(): ReadonlyMap<string, Stage> {
  const found = new Map<string, Stage>();
  let current: Stage | undefined;
  for (const line of lines) {
    const [, from, name] = /^FROM (\S+) AS (\S+)$/.exec(line) ?? [];
    if (from && name) current = { name, from, lines: found.get(from)?.lines ?? [] };
    else if (current) current = { ...current, lines: [...current.lines, line] };
    if (current) found.set(current.name, current);
  }
  return found;
}

describe("image/Dockerfile", () => {
  const all = stages();

  test("the last stage is the one without Envoy, the other is there by name", () => {
    expect([...all.keys()].at(-1)).toBe("isthmus");
    expect([...all.keys()]).toContain("envoy");
  });

  test("every stage is named, so that each line belongs to one", () => {
    expect(lines.filter((line) => line.startsWith("FROM")).every((line) => / AS \S+$/.test(line))).toBe(true);
  });

  for (const name of ["isthmus", "envoy"]) {
    const last = (word: string) =>
      all
        .get(name)
        ?.lines.filter((line) => line.startsWith(`${word} `))
        .at(-1);
    test(`${name} runs as a user of its own, by its number, as the manifests want`, () =>
      expect(last("USER")).toBe("USER 1337:1337"));
    test(`${name} is the command, so that arguments are subcommands`, () =>
      expect(last("ENTRYPOINT")).toBe('ENTRYPOINT ["/usr/local/bin/isthmus"]'));
    test(`${name} copies nothing but what the context is made of`, () => {
      const copied = all
        .get(name)!
        .lines.filter((line) => line.startsWith("COPY"))
        .flatMap((line) =>
          line
            .split(" ")
            .slice(1, -1)
            .filter((part) => !part.startsWith("--")),
        );
      const made = ["package.json", "LICENSE", "node_modules", "dist", ...(name === "envoy" ? ["envoy"] : [])];
      expect(copied).toEqual(made);
    });
  }

  test("what fetches from a network can be left out, and nothing else does", () => {
    const fetching = lines.filter((line) => /apt-get|npm (ci|install)|curl|wget|pip/.test(line));
    expect(fetching).toHaveLength(1);
    expect(fetching[0]).toContain('if [ -n "${PACKAGES}" ]');
  });

  test("the base is a choice", () => expect(lines[0]).toMatch(/^ARG BASE=node:\d+-\S*slim$/));
});
