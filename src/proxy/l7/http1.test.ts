import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Failure } from "../../base/index.ts";
import { ChunkedReader } from "./chunked.ts";
import { endOfHead, parseRequestHead, parseResponseHead } from "./head.ts";
import { fieldLines } from "./http1-write.ts";
import { limits } from "./message.ts";

const head = (text: string) => parseRequestHead(text.slice(0, text.indexOf("\r\n\r\n") + 2));

describe("a request head", () => {
  test("keeps the order and the repeats of its fields, and loses what is for this hop alone", () => {
    const request = head(
      "GET /x HTTP/1.1\r\nHost: a\r\nB: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nb: 2\r\nKeep-Alive: x\r\nTE: gzip, trailers\r\n\r\n",
    );
    expect(request.headers).toEqual(["b", "1", "b", "2", "te", "trailers"]);
  });

  test("is found at the same place whatever the packets were", () => {
    const bytes = Buffer.from("GET /x HTTP/1.1\r\nHost: a\r\nB: 1\r\n\r\nrest");
    const end = bytes.indexOf("\r\n\r\n");
    for (let cut = 0; cut <= bytes.length; cut++) {
      const first = endOfHead(bytes.subarray(0, cut), 0, 0, limits.headBytes);
      expect(first).toBe(cut >= end + 4 ? end : -1);
      expect(endOfHead(bytes, 0, cut >= end + 4 ? 0 : cut, limits.headBytes)).toBe(end);
    }
  });

  const token = fc.stringMatching(/^[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}$/).map((name) => `x-${name}`);
  const value = fc.stringMatching(/^[!-~]([ -~]{0,30}[!-~])?$/);
  test("written and read again is the same", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(token, value), { maxLength: 30 }), (pairs) => {
        const fields = pairs.flat();
        const read = head(`PUT /p HTTP/1.1\r\nhost: h\r\n${fieldLines(fields)}\r\n`);
        expect(read.headers).toEqual(pairs.flatMap(([name, text]) => [name.toLowerCase(), text]));
      }),
      { numRuns: 300 },
    );
  });

  test("of any bytes is read or refused, never anything else", () => {
    const piece = fc.constantFrom(
      "GET ",
      "/",
      " HTTP/1.1",
      "\r\n",
      "\r",
      "\n",
      ":",
      " ",
      "\t",
      "Host: a\r\n",
      "\0",
      "Content-Length: 1\r\n",
      "x",
      "\xff",
      "chunked",
      "Transfer-Encoding:",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        for (const parse of [parseRequestHead, parseResponseHead]) {
          try {
            parse(`${pieces.join("")}\r\n`);
          } catch (caught) {
            expect(caught).toBeInstanceOf(Failure);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("the chunked coding", () => {
  const read = (parts: readonly Buffer[]) => {
    const reader = new ChunkedReader();
    const data: Buffer[] = [];
    let rest = 0;
    for (const part of parts) {
      const at = reader.read(part, 0, (chunk) => data.push(Buffer.from(chunk)));
      if (reader.done) rest += part.length - at;
    }
    return { body: Buffer.concat(data).toString("latin1"), trailers: reader.trailers, done: reader.done, rest };
  };
  const whole = Buffer.from("5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\n\r\n");

  test("is read the same whatever the packets were", () => {
    for (let a = 0; a <= whole.length; a++) {
      for (let b = a; b <= whole.length; b++) {
        const got = read([whole.subarray(0, a), whole.subarray(a, b), whole.subarray(b)]);
        expect(got).toEqual({ body: "hello!", trailers: ["x-sum", "7"], done: true, rest: 0 });
      }
    }
  });

  test("is not done before its last byte, and takes none after it", () => {
    for (let cut = 0; cut < whole.length; cut++) expect(read([whole.subarray(0, cut)]).done).toBe(false);
    expect(read([Buffer.concat([whole, Buffer.from("next")])]).rest).toBe(4);
  });

  test("of any bytes is read or refused, never anything else", () => {
    const piece = fc.constantFrom("0", "5", "a", "f", "\r\n", "\r", "\n", ";", "hello", "x: y", "0\r\n", "\0");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        try {
          read(pieces.map((text) => Buffer.from(text)));
        } catch (caught) {
          expect(caught).toBeInstanceOf(Failure);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
