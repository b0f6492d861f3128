import fc from "fast-check";
import { expect, test } from "vitest";
import { answerQuery } from "./resolver.ts";

const addresses = new Map([["ingress.cluster2.test", "172.30.2.10"]]);

function query(name: string, type: number): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const head = Buffer.from([0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, type, 0, 1])]);
}

const rows = [
  { it: "a known name", name: "ingress.cluster2.test", type: 1, code: 0, answers: 1 },
  { it: "a known name in other letters", name: "InGress.Cluster2.TEST", type: 1, code: 0, answers: 1 },
  { it: "a known name's IPv6 address", name: "ingress.cluster2.test", type: 28, code: 0, answers: 0 },
  { it: "a name that is not there", name: "example.com", type: 1, code: 3, answers: 0 },
] as const;
for (const { it, name, type, code, answers } of rows) {
  test(`${it} gets code ${code} and ${answers} answers`, () => {
    const asked = query(name, type);
    const answer = answerQuery(asked, addresses)!;
    expect(answer.readUInt16BE(0)).toBe(0x1234);
    expect(answer.readUInt16BE(2) & 15).toBe(code);
    expect(answer.readUInt16BE(6)).toBe(answers);
    // The question comes back byte for byte, letters' case included.
    expect(answer.subarray(12, asked.length)).toEqual(asked.subarray(12));
    if (answers) expect([...answer.subarray(-4)].join(".")).toBe("172.30.2.10");
  });
}

test("no bytes make it throw, and a response is never answered", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const answer = answerQuery(Buffer.from(bytes), addresses);
      if (bytes.length >= 12 && bytes[2]! >= 128) expect(answer).toBe(undefined);
    }),
  );
});
