import type { Hostname, Ip } from "../values/index.ts";
import {
  buildReply,
  encodeRecord,
  flag,
  optLength,
  type Query,
  type QueryReading,
  type Rcode,
  rcodes,
  readQuery,
  recordType,
  recursionAvailable,
  udpLimit,
  writeFixed,
} from "./packet.ts";
import { type Answer, ipv6Bytes, negativeTtl, positiveTtl, type RecordSet, resolve, type Zone } from "./zone.ts";

/** What became of a query, for who counts. */
export type Outcome = "answer" | "no-data" | "no-name" | "not-yet" | "refused" | "malformed";

export type Response =
  | { readonly kind: "reply"; readonly bytes: Buffer; readonly outcome: Outcome }
  | { readonly kind: "forward"; readonly query: Query }
  | { readonly kind: "drop" };

export interface RespondOptions {
  readonly zone: Zone;
  readonly transport: "udp" | "tcp";
  /** Whether there is somebody to ask about names that are not ours. */
  readonly recursion: boolean;
}

/** The longest message over TCP. */
const tcpLimit = 65535;
/** The question's name, to which every owner points. */
const questionAt = 12;
const classIn = 1;
const classAny = 255;
/** Whole zones are not given away (AXFR, IXFR). */
const firstTransferType = 251;
const lastTransferType = 252;

/** What is said to the bytes of one query. Never throws; a reply is never longer than the client can take. */
export function respond(request: Buffer, options: RespondOptions): Response {
  const reading = readQuery(request);
  switch (reading.kind) {
    case "dropped":
      return { kind: "drop" };
    case "refused":
      return refuseReading(request, reading, options);
    case "query":
      return respondToQuery(request, reading.query, options);
  }
}

function refuseReading(
  request: Buffer,
  reading: Extract<QueryReading, { kind: "refused" }>,
  options: RespondOptions,
): Response {
  const { rcode, questionEnd, edns } = reading;
  const bytes = buildReply({ request, questionEnd, rcode, flags: recursionFlag(options), edns });
  return { kind: "reply", bytes, outcome: "malformed" };
}

function respondToQuery(request: Buffer, query: Query, options: RespondOptions): Response {
  const { zone, recursion } = options;
  if (query.class !== classIn && query.class !== classAny) return refuse(request, query, options);
  if (query.type >= firstTransferType && query.type <= lastTransferType) return refuse(request, query, options);
  const type = recordType(query.type);
  const answer = resolve(zone, query.name, type);
  switch (answer.kind) {
    case "records":
      return answerRecords(request, { query, answer, options });
    case "no-data":
      return deny(request, { query, answer, options, rcode: rcodes.noError });
    case "no-name":
      return deny(request, { query, answer, options, rcode: rcodes.nxDomain });
    case "not-yet":
      return { kind: "reply", bytes: errorReply(request, query, rcodes.servFail, recursion), outcome: "not-yet" };
    case "not-ours":
      return recursion ? { kind: "forward", query } : refuse(request, query, options);
  }
}

function refuse(request: Buffer, query: Query, options: RespondOptions): Response {
  return { kind: "reply", bytes: errorReply(request, query, rcodes.refused, options.recursion), outcome: "refused" };
}

/** A reply that has nothing but a code. */
export function errorReply(request: Buffer, query: Query, rcode: Rcode, recursion: boolean): Buffer {
  const { questionEnd, edns } = query;
  return buildReply({ request, questionEnd, rcode, flags: recursion ? recursionAvailable : 0, edns });
}

/** A reply that says no more than that it did not fit. */
export function truncatedReply(request: Buffer, query: Query, recursion: boolean): Buffer {
  const { questionEnd, edns } = query;
  const flags = flag.truncated | (recursion ? recursionAvailable : 0);
  return buildReply({ request, questionEnd, rcode: rcodes.noError, flags, edns });
}

function recursionFlag({ recursion }: RespondOptions): number {
  return recursion ? recursionAvailable : 0;
}

/** Records in wire form, each of `size` bytes where they are of one size, with the question's name as their owner. */
interface EncodedSet {
  readonly bytes: Buffer;
  readonly count: number;
  readonly size: number;
}

function answerRecords(
  request: Buffer,
  given: {
    readonly query: Query;
    readonly answer: Extract<Answer, { kind: "records" }>;
    readonly options: RespondOptions;
  },
): Response {
  const { query, answer, options } = given;
  const { set, alias } = answer;
  const encoded = encodedSet(options.zone, set, query);
  const cname = alias ? encodeAlias(alias) : undefined;
  const limit = options.transport === "tcp" ? tcpLimit : udpLimit(query.edns);
  const room = limit - query.questionEnd - (cname?.length ?? 0) - (query.edns ? optLength : 0);
  const count = encoded.bytes.length <= room ? encoded.count : Math.max(0, Math.floor(room / encoded.size));
  let answers = rotated(encoded, query.id, count);
  if (cname) {
    // The records belong to the alias's target, whose name stands in the data of the record before them.
    answers = Buffer.concat([cname, answers]);
    const owner = 0xc000 | (query.questionEnd + 12);
    for (let i = 0; i < count; i++) answers.writeUInt16BE(owner, cname.length + i * encoded.size);
  }
  const bytes = buildReply({
    request,
    questionEnd: query.questionEnd,
    rcode: rcodes.noError,
    flags: flag.authoritative | recursionFlag(options) | (count < encoded.count ? flag.truncated : 0),
    answers,
    answerCount: count + (cname ? 1 : 0),
    edns: query.edns,
  });
  return { kind: "reply", bytes, outcome: "answer" };
}

/** `count` of the records, starting at another one for another id, so that clients spread over all of them. */
function rotated({ bytes, count: total, size }: EncodedSet, id: number, count: number): Buffer {
  if (total <= 1) return count === total ? bytes : bytes.subarray(0, 0);
  const start = (id % total) * size;
  const all = start === 0 ? bytes : Buffer.concat([bytes.subarray(start), bytes.subarray(0, start)]);
  return count === total ? all : all.subarray(0, count * size);
}

/** Encodings of the sets that hold addresses, each as long-lived as its set. */
const encodings = new WeakMap<RecordSet, EncodedSet>();

function encodedSet(zone: Zone, set: RecordSet, query: Query): EncodedSet {
  switch (set.type) {
    case "A":
    case "AAAA": {
      let encoded = encodings.get(set);
      if (!encoded) {
        encoded = encodeAddresses(set.type, set.addresses);
        encodings.set(set, encoded);
      }
      return encoded;
    }
    case "PTR":
      return one(encodeRecord({ type: "PTR", data: set.target }, { ownerAt: questionAt, ttl: positiveTtl }));
    case "SRV": {
      const records = set.ports.map(({ port }) =>
        encodeRecord(
          { type: "SRV", data: { priority: 0, weight: 100, port, target: set.target } },
          { ownerAt: questionAt, ttl: positiveTtl },
        ),
      );
      return { bytes: Buffer.concat(records), count: records.length, size: records[0]?.length ?? 1 };
    }
    case "SOA":
      return one(encodeSoa(zone, query.name, questionAt));
    case "NS":
      return one(encodeRecord({ type: "NS", data: serverName(query.name) }, { ownerAt: questionAt, ttl: positiveTtl }));
  }
}

function one(bytes: Buffer): EncodedSet {
  return { bytes, count: 1, size: bytes.length };
}

function encodeAddresses(type: "A" | "AAAA", addresses: readonly Ip[]): EncodedSet {
  const length = type === "A" ? 4 : 16;
  const size = 12 + length;
  const bytes = Buffer.alloc(size * addresses.length);
  for (const [index, ip] of addresses.entries()) {
    const at = index * size;
    writeFixed(bytes, { at, ownerAt: questionAt, type: type === "A" ? 1 : 28, ttl: positiveTtl });
    bytes.writeUInt16BE(length, at + 10);
    bytes.set(type === "A" ? ip.split(".").map(Number) : ipv6Bytes(ip), at + 12);
  }
  return { bytes, count: addresses.length, size };
}

function encodeAlias(target: Hostname): Buffer {
  return encodeRecord({ type: "CNAME", data: target }, { ownerAt: questionAt, ttl: positiveTtl });
}

/** A negative answer: the SOA says for how long it holds (RFC 2308 §3). */
function deny(
  request: Buffer,
  given: {
    readonly query: Query;
    readonly answer: Extract<Answer, { kind: "no-data" | "no-name" }>;
    readonly options: RespondOptions;
    readonly rcode: Rcode;
  },
): Response {
  const { query, answer, options, rcode } = given;
  const alias = answer.kind === "no-data" && answer.alias ? encodeAlias(answer.alias) : undefined;
  // The SOA's owner is the end of the name that was asked for, or of the alias's target, so a pointer into it will do.
  // On the wire a name is two bytes longer than its text: its first length and the root.
  const targetLength = answer.kind === "no-data" && answer.alias ? answer.alias.length + 2 : 0;
  const nameEnd = alias ? query.questionEnd + 12 + targetLength : query.questionEnd - 4;
  const soa = encodeSoa(options.zone, answer.authority, nameEnd - answer.authority.length - 2);
  const bytes = buildReply({
    request,
    questionEnd: query.questionEnd,
    rcode,
    flags: flag.authoritative | recursionFlag(options),
    ...(alias ? { answers: alias, answerCount: 1 } : {}),
    authority: soa,
    authorityCount: 1,
    edns: query.edns,
  });
  const limit = options.transport === "tcp" ? tcpLimit : udpLimit(query.edns);
  const fits = bytes.length <= limit;
  return {
    kind: "reply",
    bytes: fits ? bytes : truncatedReply(request, query, options.recursion),
    outcome: answer.kind,
  };
}

/** The name server that we call ourselves: nobody asks for its address, but an SOA has to name one. */
function serverName(suffix: string): string {
  return `ns.${suffix}`;
}

function encodeSoa(zone: Zone, suffix: string, ownerAt: number): Buffer {
  const data = {
    mname: serverName(suffix),
    rname: `hostmaster.${suffix}`,
    serial: zone.serial >>> 0,
    refresh: 7200,
    retry: 1800,
    expire: 86400,
    minimum: negativeTtl,
  };
  return encodeRecord({ type: "SOA", data }, { ownerAt, ttl: negativeTtl });
}
