import { isIPv4 } from "node:net";

/** Bits of a DNS header's second word (RFC 1035 §4.1.1). */
const response = 0x8000;
const authoritative = 0x0400;
const recursionDesired = 0x0100;
const recursionAvailable = 0x0080;
const noSuchName = 3;
const notImplemented = 4;
const formatError = 1;
const typeA = 1;
const classIn = 1;
const ttlSeconds = 5;

/**
 * The answer to one DNS message; undefined for what is no query at all. Names are compared without case and sent back
 * as they were asked; a known name asked for anything but its address has no data.
 */
export function answerQuery(query: Buffer, addresses: ReadonlyMap<string, string>): Buffer | undefined {
  if (query.length < 12 || (query.readUInt16BE(2) & response) !== 0) return undefined;
  const asked = query.readUInt16BE(2);
  const head = (code: number, answers: number, question: Buffer) => {
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    const flags = response | authoritative | (asked & recursionDesired) | recursionAvailable | code;
    header.writeUInt16BE(flags | (asked & 0x7800), 2);
    header.writeUInt16BE(question.length > 0 ? 1 : 0, 4);
    header.writeUInt16BE(answers, 6);
    return Buffer.concat([header, question]);
  };
  if ((asked & 0x7800) !== 0) return head(notImplemented, 0, Buffer.alloc(0));
  const question = readQuestion(query);
  if (!question) return head(formatError, 0, Buffer.alloc(0));
  const address = addresses.get(question.name.toLowerCase());
  if (address === undefined) return head(noSuchName, 0, question.bytes);
  if (question.type !== typeA || question.class !== classIn || !isIPv4(address)) return head(0, 0, question.bytes);
  const record = Buffer.alloc(16);
  record.writeUInt16BE(0xc00c, 0); // The name stands at byte 12, in the question.
  record.writeUInt16BE(typeA, 2);
  record.writeUInt16BE(classIn, 4);
  record.writeUInt32BE(ttlSeconds, 6);
  record.writeUInt16BE(4, 10);
  for (const [index, part] of address.split(".").entries()) record[12 + index] = Number(part);
  return Buffer.concat([head(0, 1, question.bytes), record]);
}

interface Question {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly bytes: Buffer;
}

function readQuestion(query: Buffer): Question | undefined {
  if (query.readUInt16BE(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = 12;
  for (;;) {
    const length = query[at];
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > query.length || at - 12 > 255) return undefined;
    labels.push(query.toString("latin1", at, at + length));
    at += length;
  }
  if (at + 4 > query.length) return undefined;
  return {
    name: labels.join("."),
    type: query.readUInt16BE(at),
    class: query.readUInt16BE(at + 2),
    bytes: query.subarray(12, at + 4),
  };
}
