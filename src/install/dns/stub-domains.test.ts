import fc from "fast-check";
import { expect, test } from "vitest";
import { parseIp } from "../../values/index.ts";
import { removeMember, setMember } from "./json-object.ts";
import { removeStubDomains, type StubDomains, setStubDomains } from "./stub-domains.ts";

const key = fc.constantFrom("global", "corp", 'a"b', "x\\y", "{}", "é", "a,b");
const servers = fc.array(fc.constantFrom("10.0.0.1", "fd00::1", 'odd"]', "1.1.1.1#53"), { maxLength: 3 });
const space = fc.constantFrom("", " ", "\n  ", "\t");
/** Any text of an object of lists, with spaces wherever JSON allows them. */
const text = fc
  .tuple(
    fc.uniqueArray(key, { maxLength: 4 }),
    fc.array(servers, { minLength: 4, maxLength: 4 }),
    fc.array(space, { minLength: 6, maxLength: 6 }),
  )
  .map(([keys, lists, s]) => {
    const list = (items: readonly string[]) =>
      `[${s[0]}${items.map((one) => JSON.stringify(one)).join(`${s[1]},${s[2]}`)}]`;
    const members = keys.map((one, at) => `${s[3]}${JSON.stringify(one)}${s[4]}:${s[5]}${list(lists[at]!)}${s[0]}`);
    return `${s[1]}{${members.join(",")}${s[2]}}${s[3]}`;
  });
const ips = [parseIp("10.96.7.7")!, parseIp("fd00::7")!];

test("a member is set and taken out, and the others are what they were", () => {
  fc.assert(
    fc.property(text, key, servers, (json, name, list) => {
      const { [name]: _, ...others } = JSON.parse(json);
      const set = setMember(json, name, JSON.stringify(list));
      expect(JSON.parse(set)).toEqual({ ...others, [name]: list });
      expect(JSON.parse(removeMember(set, name))).toEqual(others);
    }),
    { numRuns: 500 },
  );
});

test("any stub domains are after install and remove what they were; twice is as once; only ours goes when others wrote", () => {
  fc.assert(
    fc.property(fc.option(text, { nil: undefined }), text, fc.boolean(), (before, theirs, replace) => {
      const wish = { domains: ["global", "mesh.example"], ips, replace };
      const must = (edit: ReturnType<typeof setStubDomains>): StubDomains => {
        if (!edit.ok) throw new Error(edit.message);
        return edit.value;
      };
      const once = must(setStubDomains({ text: before, undo: undefined }, wish));
      expect(must(setStubDomains(once, wish))).toEqual(once);
      expect(must(removeStubDomains(once))).toEqual({ text: before, undo: undefined });
      const one = must(removeStubDomains(once, ["mesh.example"]));
      expect(must(removeStubDomains(one))).toEqual({ text: before, undo: undefined });
      // Somebody wrote another text over it: what is in it of our names goes, or is what we had replaced; no more.
      const { global: _, "mesh.example": __, ...others } = JSON.parse(theirs);
      const after = JSON.parse(must(removeStubDomains({ ...once, text: theirs })).text ?? "{}");
      expect(after).toMatchObject(others);
    }),
    { numRuns: 500 },
  );
});
