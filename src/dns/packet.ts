import dnsPacket from "dns-packet";
import type { RecordType } from "./zone.ts";

// The wire form of questions and replies (RFC 1035 §4, RFC 6891). Questions are read by hand: every query goes through
// here, and a reply repeats the question's very bytes, its case included. Names are never followed through a pointer, so
// a loop of pointers costs nothing.

/** Response codes (RFC 1035 §4.1.1, RFC 6891 §9). */
export const rcodes = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5, badVers: 16 } as const;
export type Rcode = (typeof rcodes)[keyof typeof rcodes];

export const flag = { response: 0x8000, authoritative: 0x0400, truncated: 0x0200, recursionDesired: 0x0100 } as const;
export const recursionAvailable = 0x0080;
const checkingDisabled = 0x0010;

const headerLength = 12;
/** An OPT record without options: root name, type, size, extended code and flags, no data. */
export const optLength = 11;
const optType = 41;
/** What we say we can take, and the most that we send over UDP: it fits every path's packets (RFC 9715 §3). */
export const ourUdpSize = 1232;
export const leastUdpSize = 512;

export interface Query {
  readonly id: number;
  readonly flags: number;
  /** Lower case, without the last dot, bytes that are no plain text as `\ddd`. The root is "". */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Where the question ends; the bytes from 12 up to here are the question. */
  readonly questionEnd: number;
  readonly edns: Edns | undefined;
}

export interface Edns {
  readonly udpSize: number;
  readonly version: number;
  readonly dnssecOk: boolean;
  /** The options' bytes, a character each. What a client says of itself here (a cookie, a subnet) is in no one else's reply. */
  readonly options: string;
}

export type QueryReading =
  | { readonly kind: "query"; readonly query: Query }
  /** Answered with a code. `questionEnd` is 12 where the question could not be read. */
  | { readonly kind: "refused"; readonly rcode: Rcode; readonly questionEnd: number; readonly edns: Edns | undefined }
  /** Not answered: too short to have an id, or itself a reply (an answer to it could start an endless exchange). */
  | { readonly kind: "dropped"; readonly why: "short" | "reply" };

const short: QueryReading = { kind: "dropped", why: "short" };
const reply: QueryReading = { kind: "dropped", why: "reply" };

export function readQuery(bytes: Buffer): QueryReading {
  if (bytes.length < headerLength) return short;
  const flags = bytes.readUInt16BE(2);
  if (flags & flag.response) return reply;
  if ((flags >> 11) & 15) return refused(rcodes.notImp);
  if (bytes.readUInt16BE(4) !== 1) return refused(rcodes.formErr);
  const name = readName(bytes, headerLength);
  if (name === undefined || name.end + 4 > bytes.length) return refused(rcodes.formErr);
  const questionEnd = name.end + 4;
  const edns = readEdns(bytes, questionEnd);
  if (edns === "malformed") return refused(rcodes.formErr, questionEnd);
  if (edns && edns.version !== 0) return { kind: "refused", rcode: rcodes.badVers, questionEnd, edns };
  return {
    kind: "query",
    query: {
      id: bytes.readUInt16BE(0),
      flags,
      name: name.text,
      type: bytes.readUInt16BE(name.end),
      class: bytes.readUInt16BE(name.end + 2),
      questionEnd,
      edns,
    },
  };
}

function refused(rcode: Rcode, questionEnd = headerLength): QueryReading {
  return { kind: "refused", rcode, questionEnd, edns: undefined };
}

/** Room for the text of one name: 255 bytes, each perhaps four characters. */
const scratch = Buffer.alloc(4 * 256);

/** A name without pointers, as a question has it. Undefined when it is none: too long, cut off, or a pointer. */
function readName(bytes: Buffer, start: number): { readonly text: string; readonly end: number } | undefined {
  let at = start;
  let length = 0;
  for (;;) {
    const size = bytes[at];
    if (size === undefined || size > 63) return undefined;
    at++;
    if (size === 0) break;
    // With its length bytes a name has at most 255 bytes, the root's included (RFC 1035 §3.1).
    if (at + size - start > 254 || at + size > bytes.length) return undefined;
    if (length > 0) scratch[length++] = 0x2e;
    for (const end = at + size; at < end; at++) {
      const byte = bytes[at]!;
      if (byte >= 0x41 && byte <= 0x5a) scratch[length++] = byte + 32;
      else if (byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c) scratch[length++] = byte;
      else length += scratch.write(`\\${String(byte).padStart(3, "0")}`, length, "latin1");
    }
  }
  return { text: scratch.toString("latin1", 0, length), end: at };
}

/** The OPT record, wherever it stands among the additional ones. */
function readEdns(bytes: Buffer, from: number): Edns | undefined | "malformed" {
  const before = bytes.readUInt16BE(6) + bytes.readUInt16BE(8);
  const total = before + bytes.readUInt16BE(10);
  let edns: Edns | undefined;
  let at = from;
  for (let i = 0; i < total; i++) {
    const record = readRecord(bytes, at);
    if (!record) return "malformed";
    if (record.type === optType) {
      // One OPT, on the root, in the additional section, whose options fill it (RFC 6891 §6.1.1 and §6.1.2).
      if (edns || i < before || bytes[at] !== 0 || !optionsFill(bytes, record)) return "malformed";
      const udpSize = bytes.readUInt16BE(record.fixed + 2);
      const options = record.end === record.fixed + 10 ? "" : bytes.toString("latin1", record.fixed + 10, record.end);
      edns = { udpSize, version: bytes[record.fixed + 5]!, dnssecOk: (bytes[record.fixed + 6]! & 0x80) !== 0, options };
    }
    at = record.end;
  }
  return edns;
}

function optionsFill(bytes: Buffer, record: WireRecord): boolean {
  let at = record.fixed + 10;
  while (at < record.end) {
    if (at + 4 > record.end) return false;
    at += 4 + bytes.readUInt16BE(at + 2);
  }
  return at === record.end;
}

/** A record somewhere in a packet. `fixed` is where its type stands, behind the name; the data starts at `fixed + 10`. */
export interface WireRecord {
  readonly type: number;
  readonly fixed: number;
  readonly end: number;
}

/** Undefined when the record runs out of the packet, or its name is none. */
export function readRecord(bytes: Buffer, start: number): WireRecord | undefined {
  const fixed = skipName(bytes, start);
  if (fixed === undefined || fixed + 10 > bytes.length) return undefined;
  const end = fixed + 10 + bytes.readUInt16BE(fixed + 8);
  return end > bytes.length ? undefined : { type: bytes.readUInt16BE(fixed), fixed, end };
}

/** Where the name that starts here ends. A pointer ends it, and must point back. */
export function skipName(bytes: Buffer, start: number): number | undefined {
  for (let at = start; at - start < 255; ) {
    const size = bytes[at];
    if (size === undefined) return undefined;
    if (size === 0) return at + 1;
    if (size >= 0xc0) {
      const low = bytes[at + 1];
      return low === undefined || ((size & 0x3f) << 8) + low >= start ? undefined : at + 2;
    }
    if (size > 63) return undefined;
    at += size + 1;
  }
  return undefined;
}

export interface ReplyParts {
  readonly request: Buffer;
  readonly questionEnd: number;
  readonly rcode: Rcode;
  /** Flags besides those that are copied from the request. */
  readonly flags: number;
  readonly answers?: Buffer;
  readonly answerCount?: number;
  readonly authority?: Buffer;
  readonly authorityCount?: number;
  readonly edns: Edns | undefined;
}

const nothing = Buffer.alloc(0);

/** A whole reply: the request's id, question and copied flags, the sections as given, OPT where the request had one. */
export function buildReply(parts: ReplyParts): Buffer {
  const { request, questionEnd, answers = nothing, authority = nothing, edns } = parts;
  const out = Buffer.allocUnsafe(questionEnd + answers.length + authority.length + (edns ? optLength : 0));
  request.copy(out, 0, 0, questionEnd);
  const copied = request.readUInt16BE(2) & (0x7800 | flag.recursionDesired | checkingDisabled);
  out.writeUInt16BE(flag.response | copied | parts.flags | (parts.rcode & 15), 2);
  out.writeUInt16BE(questionEnd > headerLength ? 1 : 0, 4);
  out.writeUInt16BE(parts.answerCount ?? 0, 6);
  out.writeUInt16BE(parts.authorityCount ?? 0, 8);
  out.writeUInt16BE(edns ? 1 : 0, 10);
  let at = questionEnd;
  if (answers.length > 0) at += answers.copy(out, at);
  if (authority.length > 0) at += authority.copy(out, at);
  if (edns) {
    out.fill(0, at, at + optLength);
    out[at + 2] = optType;
    out.writeUInt16BE(ourUdpSize, at + 3);
    out[at + 5] = parts.rcode >> 4;
    out[at + 7] = edns.dnssecOk ? 0x80 : 0;
  }
  return out;
}

/** The most bytes that the reply to a query may have over UDP. */
export function udpLimit(edns: Edns | undefined): number {
  return edns ? Math.min(Math.max(edns.udpSize, leastUdpSize), ourUdpSize) : leastUdpSize;
}

/** Numbers of record types (IANA "DNS parameters"); those that a zone tells apart. */
const typeNames: ReadonlyMap<number, RecordType> = new Map([
  [1, "A"],
  [2, "NS"],
  [5, "CNAME"],
  [6, "SOA"],
  [12, "PTR"],
  [28, "AAAA"],
  [33, "SRV"],
  [64, "SVCB"],
  [65, "SVCB"], // HTTPS is SVCB for one scheme (RFC 9460 §9).
  [255, "ANY"],
]);
const typeNumbers = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, AAAA: 28, SRV: 33 } as const;

export function recordType(type: number): RecordType {
  return typeNames.get(type) ?? "other";
}

/** A record from the pointer to its owner on. `data` is what the DNS library takes for the type. */
export function encodeRecord(
  record:
    | { readonly type: "CNAME" | "PTR" | "NS"; readonly data: string }
    | { readonly type: "SRV"; readonly data: { priority: number; weight: number; port: number; target: string } }
    | { readonly type: "SOA"; readonly data: Soa },
  options: { readonly ownerAt: number; readonly ttl: number },
): Buffer {
  // The library's codec writes the length in front of the data.
  const codec = dnsPacket as unknown as { record(type: string): { encode(data: unknown): Uint8Array } };
  const data = codec.record(record.type).encode(record.data);
  const out = Buffer.alloc(10 + data.length);
  writeFixed(out, { at: 0, ownerAt: options.ownerAt, type: typeNumbers[record.type], ttl: options.ttl });
  out.set(data, 10);
  return out;
}

export interface Soa {
  readonly mname: string;
  readonly rname: string;
  readonly serial: number;
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  readonly minimum: number;
}

/** Owner as a pointer, type, class IN and TTL: the first ten bytes of a record. */
export function writeFixed(
  out: Buffer,
  record: { readonly at: number; readonly ownerAt: number; readonly type: number; readonly ttl: number },
): void {
  out.writeUInt16BE(0xc000 | record.ownerAt, record.at);
  out.writeUInt16BE(record.type, record.at + 2);
  out.writeUInt16BE(1, record.at + 4);
  out.writeUInt32BE(record.ttl, record.at + 6);
}
