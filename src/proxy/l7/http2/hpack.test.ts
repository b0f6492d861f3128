import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ConnectionError } from "./frames.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder, mostBytesOf } from "./hpack-encoder.ts";
import { decodeHuffman } from "./huffman.ts";

const plenty = { bytes: 64 * 1024, fields: 200 };
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const encoded = (encoder: HpackEncoder, fields: readonly string[]) => {
  const out = Buffer.alloc(mostBytesOf(fields));
  return out.subarray(0, encoder.encode(fields, out, 0));
};

/** The examples of RFC 7541, Appendix C: blocks of one connection, one after the other. */
const examples: ReadonlyArray<readonly [name: string, blocks: ReadonlyArray<readonly [string, readonly string[]]>]> = [
  [
    "C.3: requests, plain",
    [
      [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
      ],
      [
        "8286 84be 5808 6e6f 2d63 6163 6865",
        [
          ":method",
          "GET",
          ":scheme",
          "http",
          ":path",
          "/",
          ":authority",
          "www.example.com",
          "cache-control",
          "no-cache",
        ],
      ],
    ],
  ],
  [
    "C.4: requests, in Huffman's code",
    [
      [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
      ],
      [
        "8286 84be 5886 a8eb 1064 9cbf",
        [
          ":method",
          "GET",
          ":scheme",
          "http",
          ":path",
          "/",
          ":authority",
          "www.example.com",
          "cache-control",
          "no-cache",
        ],
      ],
      [
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        [
          ":method",
          "GET",
          ":scheme",
          "https",
          ":path",
          "/index.html",
          ":authority",
          "www.example.com",
          "custom-key",
          "custom-value",
        ],
      ],
    ],
  ],
  [
    "C.6: answers, in Huffman's code, a table of 256 bytes that drops what is old",
    [
      [
        "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        [
          ":status",
          "302",
          "cache-control",
          "private",
          "date",
          "Mon, 21 Oct 2013 20:13:21 GMT",
          "location",
          "https://www.example.com",
        ],
      ],
      [
        "4883 640e ffc1 c0bf",
        [
          ":status",
          "307",
          "cache-control",
          "private",
          "date",
          "Mon, 21 Oct 2013 20:13:21 GMT",
          "location",
          "https://www.example.com",
        ],
      ],
    ],
  ],
];

describe("blocks of fields", () => {
  for (const [name, blocks] of examples) {
    test(`RFC 7541, ${name}`, () => {
      const decoder = new HpackDecoder();
      for (const [block, fields] of blocks)
        expect(decoder.decode(hex(block), plenty)).toEqual({ kind: "fields", fields });
    });
  }

  test("what is written is read again, block after block, whatever the table's size", () => {
    const name = fc.oneof(
      fc.constantFrom("x-a", "x-b", "cookie", "authorization", "content-type", ":path", "user-agent", "date"),
      fc.stringMatching(/^[a-z][a-z0-9-]{0,30}$/),
    );
    const value = fc.oneof(
      fc.constantFrom("", "1", "text/plain", "gzip, deflate", "GET"),
      fc.stringMatching(/^[\x20-\x7e]{0,60}$/),
      fc.stringMatching(/^[\x80-\xff]{100,300}$/),
    );
    const block = fc.record({
      fields: fc.array(fc.tuple(name, value), { maxLength: 12 }),
      resize: fc.option(fc.integer({ min: 0, max: 5000 }), { freq: 4 }),
    });
    fc.assert(
      fc.property(fc.array(block, { maxLength: 40 }), (blocks) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder();
        for (const { fields: pairs, resize } of blocks) {
          if (resize !== null) encoder.resize(resize);
          const fields = pairs.flat();
          expect(decoder.decode(encoded(encoder, fields), plenty)).toEqual({ kind: "fields", fields });
        }
      }),
      { numRuns: 300, seed: 20261129 },
    );
  });

  test("what is said again costs a byte a field, and so does what every connection knows", () => {
    const encoder = new HpackEncoder();
    const fields = [":method", "GET", "user-agent", "curl/8.0", "x-own", "some value"];
    expect(encoded(encoder, fields).length).toBeGreaterThan(20);
    expect(encoded(encoder, fields)).toHaveLength(3);
  });

  test("secrets never enter the table, and what is new each time stays out of it after a while", () => {
    const encoder = new HpackEncoder();
    for (const name of ["authorization", "cookie", "set-cookie", "proxy-authorization"]) {
      const first = encoded(encoder, [name, "abcdefgh"]);
      expect(first[0]! >> 4, name).toBe(1);
      expect(encoded(encoder, [name, "abcdefgh"]), name).toEqual(first);
    }
    const firsts = Array.from({ length: 12 }, (_, i) => encoded(encoder, ["x-request-id", `id ${i}`])[0]! >> 6);
    expect(firsts).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
  });

  test("more than is accepted is read to its end, so that the next block is understood", () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const many = Array.from({ length: 30 }, (_, i) => [`x-${i}`, "y"]).flat();
    expect(decoder.decode(encoded(encoder, [...many, "x-last", "z"]), { bytes: 1e6, fields: 20 })).toEqual({
      kind: "too-large",
    });
    expect(decoder.decode(encoded(encoder, many), { bytes: 500, fields: 100 })).toEqual({ kind: "too-large" });
    expect(decoder.decode(encoded(encoder, ["x-last", "z"]), plenty)).toEqual({
      kind: "fields",
      fields: ["x-last", "z"],
    });
  });

  test("a name or value with characters that none may have is told, from the table too", () => {
    for (const [name, value] of [
      ["X-Upper", "y"],
      ["x y", "z"],
      ["x", "a\r\nb: c"],
      ["x", "\0"],
      ["", "y"],
    ] as const) {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (let times = 0; times < 2; times++)
        expect(decoder.decode(encoded(encoder, [name, value]), plenty), name).toEqual({ kind: "malformed" });
    }
  });

  const broken: ReadonlyArray<readonly [it: string, block: string]> = [
    ["an index of nothing", "80"],
    ["an index beyond the tables", "ff 80 01"],
    ["a name's index beyond the tables", "7f 80 01 01 61"],
    ["a number without end", "ff ff ff ff ff ff ff ff ff ff"],
    ["a number cut off", "ff"],
    ["a text cut off", "40 03 61"],
    ["a field without its value", "40 01 61"],
    ["padding in Huffman's code that is not ones", "40 81 00 00"],
    ["padding in Huffman's code of a whole byte", "40 82 1f ff 00"],
    ["the end of a string inside it", "40 84 ff ff ff ff 00"],
    ["a table larger than was allowed", "3f e2 1f"],
    ["a change of the table's size behind a field", "82 3f e1 01"],
    ["three changes of the table's size", "20 3f e1 01 20"],
  ];
  for (const [it, block] of broken) {
    test(`${it} ends the connection`, () => {
      expect(() => new HpackDecoder().decode(hex(block), plenty)).toThrow(ConnectionError);
    });
  }
});

test("Huffman's code of every byte is what RFC 7541 says: the lengths are those of Appendix B, from two of its rows", () => {
  // "1" is 00001, "X" is 11111100, both padded with ones.
  expect(decodeHuffman(hex("0f"), 0, 1)).toBe("1");
  expect(decodeHuffman(hex("fc"), 0, 1)).toBe("X");
  expect(decodeHuffman(hex("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"), 0, 17)).toBe("https://www.example.com");
});
