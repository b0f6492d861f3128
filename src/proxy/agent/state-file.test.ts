import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeStateFile, encodeStateFile, type StateFile } from "./state-file.ts";

const wanted = { kind: "configuration", node: "sidecar~10.0.0.1~sleep.foo" };
const file: StateFile = {
  ...wanted,
  savedMs: 1_900_000_000_000,
  head: { told: ["a"], text: "ü\n" },
  blobs: [Buffer.from("first"), new Uint8Array(), Buffer.from([0, 255, 10, 13])],
};
const bytes = encodeStateFile(file);

describe("a state file", () => {
  test("is read back as it was written, whatever it holds", () => {
    fc.assert(
      fc.property(
        fc.record({
          kind: fc.string(),
          node: fc.string({ unit: "binary" }),
          savedMs: fc.nat(),
          head: fc.jsonValue(),
          blobs: fc.array(fc.uint8Array()),
        }),
        (any) => {
          const read = decodeStateFile(encodeStateFile(any), any);
          expect(read).toEqual({ ok: true, file: { ...any, head: JSON.parse(JSON.stringify(any.head)) } });
        },
      ),
    );
  });

  test("that was cut off anywhere is none", () => {
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeStateFile(bytes.subarray(0, length), wanted), `${length} bytes`).toMatchObject({ ok: false });
    }
    expect(decodeStateFile(bytes, wanted)).toMatchObject({ ok: true });
  });

  test("of which one bit is another is none", () => {
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[at]! ^= 1 << bit;
        expect(decodeStateFile(flipped, wanted), `byte ${at}, bit ${bit}`).toMatchObject({ ok: false });
      }
    }
  });

  test("with something behind its end, or with a hole of zeros, is none", () => {
    expect(decodeStateFile(Buffer.concat([bytes, Buffer.from([0])]), wanted)).toMatchObject({ ok: false });
    const holed = Buffer.from(bytes);
    holed.fill(0, bytes.length - 8);
    expect(decodeStateFile(holed, wanted)).toMatchObject({ ok: false, reason: "its checksum is wrong" });
  });

  const others: ReadonlyArray<{ it: string; made: StateFile; says: RegExp }> = [
    { it: "of another node", made: { ...file, node: "sidecar~10.0.0.2~sleep.foo" }, says: /another proxy's/ },
    { it: "of another kind", made: { ...file, kind: "certificate" }, says: /holds "certificate", not "configuration"/ },
  ];
  for (const { it, made, says } of others) {
    test(`${it} is not used`, () => {
      expect(decodeStateFile(encodeStateFile(made), wanted)).toMatchObject({
        ok: false,
        reason: expect.stringMatching(says),
      });
    });
  }

  test("of another version is not used, and both versions are named", () => {
    const text = bytes.toString("latin1").replace("isthmus-state 1 ", "isthmus-state 2 ");
    expect(decodeStateFile(Buffer.from(text, "latin1"), wanted)).toEqual({
      ok: false,
      reason: "it is of version 2, and this program reads version 1",
    });
  });

  test("whose checksum is right and whose head is nonsense is refused, not thrown over", () => {
    for (const sizes of [[5], [-1], ["x"], [1.5], {}, null]) {
      // The encoder is misused: what the head lists as sizes is not what follows.
      const blobs = Object.assign([], { map: () => sizes }) as readonly Uint8Array[];
      expect(decodeStateFile(encodeStateFile({ ...file, blobs }), wanted), JSON.stringify(sizes)).toMatchObject({
        ok: false,
      });
    }
  });

  test("never throws on garbage", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.string(), (tail, text) => {
        const garbage = Buffer.concat([Buffer.from(text), Buffer.from(tail)]);
        expect(decodeStateFile(garbage, wanted).ok).toBe(false);
      }),
    );
  });
});
