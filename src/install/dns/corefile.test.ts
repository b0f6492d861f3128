import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseIp } from "../../values/index.ts";
import { parseCorefile } from "./corefile.ts";
import { type CorefileWish, cleanCorefile, editCorefile, refusals, sameButOurs } from "./corefile-edit.ts";
import { tokensOf } from "./tokens.ts";

const ip = parseIp("10.96.7.7")!;
const importer = () => [];
const wish: CorefileWish = {
  form: "coredns-after-1.4.0",
  version: [1, 12, 4],
  domains: ["global"],
  ips: [ip],
  defaultPort: 53,
  replace: false,
  complete: false,
};
const kubeadm = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`;

function install(text: string, over: Partial<CorefileWish> = {}) {
  const edited = editCorefile({ main: text, importer }, { ...wish, ...over });
  if (!edited.ok) throw new Error(edited.problem.message);
  return edited;
}

describe("words", () => {
  const cases: ReadonlyArray<readonly [text: string, words: readonly string[]]> = [
    ["a b\n c", ["a", "b", "c"]],
    ['"a b" c"d', ["a b", 'c"d']],
    ['"a\\"b\\n"', ['a"b\\n']],
    ["a#b c\nd", ["a", "d"]],
    ["# all\r\n.:53\r\n{", [".:53", "{"]],
    ["a\rb", ["ab"]],
    ['"two\nlines" x', ["two\nlines", "x"]],
    ['"" x', ["", "x"]],
    ['x "never ends', ["x", "never ends"]],
    ['x "', ["x"]],
    ["\ufeffa", ["a"]],
    ["a\u0085b\u00a0c", ["a", "b", "c"]],
  ];
  for (const [text, words] of cases) {
    test(JSON.stringify(text), () => {
      const tokens = tokensOf(text);
      expect(tokens.map((token) => token.text)).toEqual(words);
      for (const token of tokens) expect(text.slice(token.start, token.end)).not.toMatch(/^\s|\s$/);
    });
  }
});

describe("blocks", () => {
  const shape = (text: string) => {
    const parsed = parseCorefile(text);
    if (!parsed.ok) return `${parsed.problem.line}: ${parsed.problem.message}`;
    return parsed.corefile.blocks.map(
      ({ keys, directives }) =>
        `${keys.map((key) => key.text).join(" ")}: ${directives.map((one) => one.name.text).join(" ")}`,
    );
  };
  const cases: ReadonlyArray<readonly [what: string, text: string, blocks: unknown]> = [
    ["keys with a comma go on", "a,\nb {\nerrors\n}", ["a b: errors"]],
    ["no braces", ".:53\nerrors\ncache 30\n", [".:53: errors cache"]],
    ["a brace on its own line", ".:53\n{\nerrors\n}", [".:53: errors"]],
    ["nested", ". {\nforward . x {\n  a {\n b\n }\n}\ncache\n}\nb {\n}", [".: forward cache", "b: "]],
    ["snippets", "(s) {\nerrors\ncache 5\n}\n. {\nimport s\nlog\n}", [".: errors cache log"]],
    ["files, unknown", ". {\nimport custom/*.override\nlog\n}\nimport custom/*.server\n", [".: log"]],
    ["never closed", ". {\nforward . x {\n", '2: the block of "forward" has no closing "}"'],
    ["closed twice", ". {\nforward . x }\n}", '2: this "}" closes nothing'],
    ["a snippet twice", "(s) {\n}\n(s) {\n}", '3: the snippet "s" is there twice'],
    ["a circle", "(s) {\nimport s\n}\n. {\nimport s\n}", "2: imports go round in a circle"],
  ];
  for (const [what, text, blocks] of cases) test(what, () => expect(shape(text)).toEqual(blocks));
});

describe("install", () => {
  test("adds the block of the form, and remove takes it out again", () => {
    const { text, notes } = install(kubeadm);
    expect(text.startsWith(kubeadm)).toBe(true);
    expect(text).toContain("\nglobal:53 {\n    errors\n    cache 30\n    forward . 10.96.7.7:53\n}\n");
    expect(notes).toEqual(["left as it is: forward . /etc/resolv.conf (line 13)"]);
    expect(install(text).text).toBe(text);
    expect(cleanCorefile(text)).toBe(kubeadm);
  });
  test("renews the block when the address changed", () => {
    const other = parseIp("fd00::53")!;
    const { text } = install(install(kubeadm).text, { ips: [ip, other] });
    expect(text).toContain("    forward . 10.96.7.7:53 [fd00::53]:53\n");
    expect(cleanCorefile(text)).toBe(kubeadm);
  });
  test("1.4.0 gets no port, and nothing is said of ready", () => {
    const old = kubeadm.replace("    ready\n", "");
    const { text, notes } = install(old, { form: "coredns-1.4.0", version: [1, 4, 0] });
    expect(text).toContain("    forward . 10.96.7.7\n");
    expect(notes.join()).not.toContain("ready");
  });
  test("a version without forward gets proxy", () => {
    expect(install(kubeadm, { form: "coredns-before-1.4.0", version: [1, 0, 5] }).text).toContain(
      "proxy . 10.96.7.7:53",
    );
    expect(install(kubeadm, { form: "coredns-before-1.4.0", version: [1, 3, 1] }).text).toContain(
      "forward . 10.96.7.7:53",
    );
  });
  test("listens where the main block listens, and binds what it binds", () => {
    const { text } = install(".:5353 {\n\tbind 169.254.20.10 10.0.0.10\n\tforward . 1.1.1.1\n}\n");
    expect(text).toContain("global:5353 {\n\terrors\n\tcache 30\n\tbind 169.254.20.10 10.0.0.10\n\tforward");
  });
  test("a block without braces is not run into", () => {
    const bare = ".:53\nforward . 1.1.1.1\n";
    const { text } = install(bare);
    expect(text.endsWith(bare)).toBe(true);
    expect(cleanCorefile(text)).toBe(bare);
    expect(sameButOurs({ main: bare, importer }, { main: text, importer })).toBe(true);
  });
  test("two domains, one removed", () => {
    const one = install(kubeadm).text;
    const two = install(one, { domains: ["mesh.example"] }).text;
    expect(cleanCorefile(two, ["mesh.example"])).toBe(one);
    expect(cleanCorefile(cleanCorefile(two, ["global"]), ["mesh.example"])).toBe(kubeadm);
  });
  test("--complete adds what the form has and the main block not, and remove takes it out", () => {
    const bare = ".:53 {\n    errors\n}\n";
    const { text, notes } = install(bare, { complete: true });
    expect(text).toContain(
      "    errors\n    ready # added by isthmus dns\n    forward . /etc/resolv.conf # added by isthmus dns\n}\n",
    );
    expect(notes).toEqual(["added to the main block: ready", "added to the main block: forward . /etc/resolv.conf"]);
    expect(cleanCorefile(text)).toBe(bare);
    expect(install(text, { complete: true }).text).toBe(text);
  });
});

describe("a zone by somebody else", () => {
  const theirs = "\nglobal:53 {\n    forward . 10.0.0.9 # old mesh\n\n}\n";
  test("is told with its line and left alone", () => {
    const { text, conflicts } = install(kubeadm + theirs);
    expect(text).toBe(kubeadm + theirs);
    expect(conflicts).toEqual([
      { domain: "global", file: "", line: 22, text: "global:53 {", same: false, stuck: undefined },
    ]);
  });
  for (const [what, key] of [
    ["in capitals", "Global."],
    ["with a scheme", "dns://global:53"],
    ["without a port", "global"],
  ] as const) {
    test(`is seen ${what}`, () => {
      expect(install(`${kubeadm}${key} {\n  errors\n}\n`).conflicts).toHaveLength(1);
    });
  }
  test("on another port is none", () => expect(install(`${kubeadm}global:54 {\n  errors\n}\n`).conflicts).toEqual([]));
  test("that asks the same servers is enough", () => {
    const { text, conflicts } = install(`${kubeadm}global {\n  forward . dns://10.96.7.7:53\n}\n`, { replace: true });
    expect(conflicts[0]!.same).toBe(true);
    expect(text).not.toContain("isthmus");
  });
  for (const end of ["", "\n", "\n# after\n"]) {
    test(`is replaced when asked, and comes back (${JSON.stringify(end)})`, () => {
      const before = `${theirs.trimEnd()}${end}`;
      const { text } = install(kubeadm + before, { replace: true });
      expect(text).toContain("# was|    forward . 10.0.0.9 # old mesh\n# was|\n# was|}\nglobal:53 {\n    errors\n");
      expect(refusals({ main: text, importer }, { version: [1, 12, 4], defaultPort: 53 })).toEqual([]);
      expect(install(text).text).toBe(text);
      expect(cleanCorefile(install(text, { ips: [parseIp("10.1.1.1")!] }).text)).toBe(kubeadm + before);
    });
  }
  test("that shares its block is not replaced", () => {
    const { text, conflicts } = install(`${kubeadm}global corp {\n  errors\n}\n`, { replace: true });
    expect(conflicts[0]!.stuck).toBe("its block serves other zones as well");
    expect(text).not.toContain("isthmus");
  });
});

describe("what CoreDNS would refuse", () => {
  const refused = (main: string, version: readonly [number, number, number]) =>
    refusals({ main, importer }, { version, defaultPort: 53 }).map(({ line, message }) => `${line}: ${message}`);
  test("is named by line and version", () => {
    expect(refused(".:53 {\n ready\n proxy . 1.1.1.1\n}\n", [1, 4, 0])).toEqual([
      '2: CoreDNS 1.4.0 has no "ready", which came after 1.4.0',
    ]);
    expect(refused(".:53 {\n ready\n proxy . 1.1.1.1\n}\n", [1, 5, 0])).toEqual([
      '3: CoreDNS 1.5.0 has no "proxy", which went with 1.5.0',
    ]);
    expect(refused(". {\n kubernetes cluster.local {\n  upstream\n }\n}\n", [1, 7, 0])[0]).toContain(
      'refuses "upstream"',
    );
    expect(refused("a {\n}\na:53 {\n}\n", [1, 12, 4])).toEqual([
      '3: the zone "a." is there twice, in line 1 and in line 3',
    ]);
    expect(refused(". {\n somebodys_own\n}\n", [1, 12, 4])).toEqual([]);
  });
});

describe("any Corefile", () => {
  const word = fc.constantFrom(
    "errors",
    "cache 30",
    "log",
    'template "a # b"',
    'x "two\n# isthmus dns begin global\nlines"',
    "y#z",
  );
  const space = fc.constantFrom("", "\n", "# a note\n", "  \n\t\n", "# isthmus dns end global\n", "# was|x\n");
  const directive = fc.tuple(word, fc.constantFrom("", " # why", " {\n  inner {\n a b\n }\n }")).map(([a, b]) => {
    // A nested block behind a word that is a comment would not be one.
    return b.startsWith(" {") && a.includes("#") ? a : a + b;
  });
  const key = fc.constantFrom(".:53", ".", "corp:53", "a.example, b.example", '"q.example"', "global:54", "(snip)");
  const block = fc
    .tuple(
      key,
      fc.constantFrom(" {\n", "\n{\n"),
      fc.array(directive, { maxLength: 4 }),
      fc.constantFrom("  ", "\t", ""),
    )
    .map(([name, open, lines, indent]) => `${name}${open}${lines.map((line) => `${indent}${line}\n`).join("")}}`);
  const corefile = fc
    .tuple(
      fc.array(fc.tuple(space, block), { maxLength: 4 }),
      space,
      fc.constantFrom("\n", "", "\r\n", "\n\n", " # end"),
      fc.constantFrom("", "\ufeff"),
    )
    .map(([parts, last, end, bom]) =>
      `${bom}${parts.map(([before, text]) => `${before}${text}\n`).join("")}${last}`.replace(/\n$/, end),
    );
  const options = fc.record({
    complete: fc.boolean(),
    replace: fc.boolean(),
    domains: fc.constantFrom(["global"], ["global", "corp"], ["a.b"]),
  });

  test("is after install and remove what it was; twice is as once; the rest is read the same", () => {
    fc.assert(
      fc.property(corefile, options, (text, over) => {
        if (!parseCorefile(text).ok) return;
        const once = install(text, over).text;
        expect(cleanCorefile(once)).toBe(text);
        expect(install(once, over).text).toBe(once);
        if (!over.complete && !over.replace)
          expect(sameButOurs({ main: text, importer }, { main: once, importer })).toBe(true);
        const renewed = install(once, { ...over, ips: [parseIp("10.0.0.1")!, parseIp("fd00::1")!] }).text;
        expect(cleanCorefile(renewed)).toBe(text);
      }),
      { numRuns: 300 },
    );
  });
});
