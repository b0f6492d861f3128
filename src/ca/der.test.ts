import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Failure } from "../base/index.ts";
import {
  childrenOf,
  type DerElement,
  decodeDer,
  encode,
  integer,
  integerBytes,
  namedBitString,
  namedBits,
  oid,
  oidText,
  sequence,
  time,
  timeMs,
} from "./der.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

/** Reads all of it, as deep as it goes. */
function walk(element: DerElement): number {
  return (element.tag & 0x20) === 0 ? 1 : childrenOf(element).reduce((sum, child) => sum + walk(child), 1);
}

describe("der", () => {
  const refused = [
    { it: "nothing at all", bytes: "" },
    { it: "an indefinite length", bytes: "30 80 00 00" },
    { it: "a length in two bytes that fits one", bytes: "04 81 05 0102030405" },
    { it: "a length with a leading zero", bytes: `04 82 0080${"00".repeat(128)}` },
    { it: "a length of four bytes", bytes: "04 84 00000001 00" },
    { it: "a length beyond the end", bytes: "04 05 01" },
    { it: "bytes after the end", bytes: "05 00 00" },
    { it: "a tag of two bytes", bytes: "1f 81 01 00" },
    { it: "tag zero", bytes: "00 00" },
    {
      it: "nesting of 40",
      bytes: Array.from({ length: 40 }).reduce<string>(
        (inner) => `30${(inner.length / 2).toString(16).padStart(2, "0")}${inner}`,
        "",
      ),
    },
    { it: "2,000 elements in one", bytes: `3082${(4000).toString(16).padStart(4, "0")}${"0500".repeat(2000)}` },
  ];
  for (const { it, bytes } of refused) {
    test(`${it} is refused`, () => {
      expect(() => walk(decodeDer(hex(bytes)))).toThrow(/malformed DER/);
    });
  }

  test("an integer not in its shortest form is refused", () => {
    expect(() => integerBytes(decodeDer(hex("02 02 00 01")))).toThrow(/shortest/);
    expect(() => integerBytes(decodeDer(hex("02 02 ff 80")))).toThrow(/shortest/);
    expect(() => integerBytes(decodeDer(hex("02 00")))).toThrow(/without a value/);
  });

  const times = [
    { it: "a time without seconds", tag: 0x17, text: "2501010000Z" },
    { it: "a time with an offset", tag: 0x17, text: "250101000000+0100" },
    { it: "the 31st of February", tag: 0x17, text: "250231000000Z" },
    { it: "a fraction of a second", tag: 0x18, text: "20250101000000.5Z" },
  ];
  for (const { it, tag, text } of times) {
    test(`${it} is refused`, () => expect(() => timeMs(decodeDer(encode(tag, Buffer.from(text))))).toThrow(/time/));
  }

  test("numbers, names, bits and times survive the way there and back", () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 31 - 1),
        fc.integer({ min: 0, max: 253_402_300_799 }),
        fc.uniqueArray(fc.nat(15), { minLength: 1 }),
        fc.array(fc.nat(2 ** 40), { maxLength: 6 }),
        (number, seconds, bits, arcs) => {
          expect(Number(`0x${integerBytes(decodeDer(integer(number))).toString("hex")}`)).toBe(number);
          expect(timeMs(decodeDer(time(seconds * 1000)))).toBe(seconds * 1000);
          expect([...namedBits(decodeDer(namedBitString(bits)))].sort()).toEqual([...bits].sort());
          const name = ["1.2", ...arcs].join(".");
          expect(oidText(decodeDer(oid(name)))).toBe(name);
        },
      ),
    );
  });

  test("lengths of every size are read as they were written", () => {
    for (const size of [0, 1, 127, 128, 255, 256, 40_000])
      expect(childrenOf(decodeDer(sequence(encode(4, Buffer.alloc(size)))))[0]?.content.length).toBe(size);
  });

  test("no bytes do anything but be read or be refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          walk(decodeDer(bytes));
        } catch (caught) {
          expect(caught).toBeInstanceOf(Failure);
        }
      }),
      { seed: 7, numRuns: 5000 },
    );
  });
});
