import type { Clock } from "../base/index.ts";
import { flag, type Query, rcodes, readRecord } from "./packet.ts";

/** A positive answer is kept no longer than this, in seconds: a wrong TTL elsewhere must not outlive an hour here. */
const longestTtl = 3600;
/** The same for a no (RFC 2308 §5 allows up to three hours). */
const longestNegativeTtl = 300;
const soaType = 6;
const optType = 41;

interface Entry {
  readonly reply: Buffer;
  readonly storedMs: number;
  readonly expiresMs: number;
  /** Where the TTLs stand in `reply`. */
  readonly ttlOffsets: readonly number[];
}

/** Replies of other servers until they expire, the least recently used going first when there are too many. */
export class ReplyCache {
  readonly #entries = new Map<string, Entry>();
  readonly #clock: Clock;
  readonly #mostEntries: number;
  readonly #mostBytes: number;
  #bytes = 0;

  constructor(options: { readonly clock: Clock; readonly mostEntries?: number; readonly mostBytes?: number }) {
    this.#clock = options.clock;
    this.#mostEntries = options.mostEntries ?? 4096;
    this.#mostBytes = options.mostBytes ?? 8 * 2 ** 20;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The reply to `query` with TTLs as they are by now, the client's id and the question as the client spelled it. */
  get(query: Query, request: Buffer): Buffer | undefined {
    const key = questionKey(query);
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const now = this.#clock.monotonic();
    if (now >= entry.expiresMs) {
      this.#forget(key, entry);
      return undefined;
    }
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const reply = Buffer.from(entry.reply);
    const ageS = Math.floor((now - entry.storedMs) / 1000);
    for (const at of entry.ttlOffsets) reply.writeUInt32BE(Math.max(0, reply.readUInt32BE(at) - ageS), at);
    return readdress(reply, query, request);
  }

  /** Keeps `reply` for as long as it says itself; not what failed, was cut short, cannot be read or is for one client. */
  put(query: Query, reply: Buffer): void {
    if (query.edns?.options) return;
    const lifetime = lifetimeOf(reply, query.questionEnd);
    if (!lifetime || lifetime.ttlS <= 0 || reply.length > this.#mostBytes) return;
    const key = questionKey(query);
    const known = this.#entries.get(key);
    if (known) this.#forget(key, known);
    const storedMs = this.#clock.monotonic();
    const expiresMs = storedMs + lifetime.ttlS * 1000;
    this.#entries.set(key, { reply: Buffer.from(reply), storedMs, expiresMs, ttlOffsets: lifetime.ttlOffsets });
    this.#bytes += reply.length;
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= this.#mostEntries && this.#bytes <= this.#mostBytes) break;
      this.#forget(oldest, entry);
    }
  }

  #forget(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#bytes -= entry.reply.length;
  }
}

/** Two queries with one key get the same reply: the question, and all of the query that a reply depends on. */
export function questionKey({ name, type, class: queryClass, flags, edns }: Query): string {
  const wants = `${flags & (flag.recursionDesired | 0x0030)}:${edns ? (edns.dnssecOk ? "do" : "edns") : ""}`;
  return `${type}:${queryClass}:${wants}:${name}:${edns?.options ?? ""}`;
}

/** Makes a reply to the same question one to this request: owners point to the question, so its spelling is theirs. */
export function readdress(reply: Buffer, query: Query, request: Buffer): Buffer {
  reply.writeUInt16BE(query.id, 0);
  request.copy(reply, 12, 12, query.questionEnd);
  return reply;
}

/** Undefined for a reply that is not to be kept. */
export function lifetimeOf(
  reply: Buffer,
  questionEnd: number,
): { readonly ttlS: number; readonly ttlOffsets: readonly number[] } | undefined {
  const flags = reply.readUInt16BE(2);
  const rcode = flags & 15;
  if (flags & flag.truncated || (rcode !== rcodes.noError && rcode !== rcodes.nxDomain)) return undefined;
  const answerCount = reply.readUInt16BE(6);
  const untilAdditional = answerCount + reply.readUInt16BE(8);
  const total = untilAdditional + reply.readUInt16BE(10);
  const ttlOffsets: number[] = [];
  let ttlS = longestTtl;
  let negativeS: number | undefined;
  let at = questionEnd;
  for (let i = 0; i < total; i++) {
    const record = readRecord(reply, at);
    if (!record) return undefined;
    at = record.end;
    if (record.type === optType) continue;
    const ttl = reply.readUInt32BE(record.fixed + 4);
    ttlOffsets.push(record.fixed + 4);
    // A TTL with its highest bit set counts as none (RFC 2181 §8).
    ttlS = Math.min(ttlS, ttl > 0x7fffffff ? 0 : ttl);
    if (record.type === soaType && i >= answerCount && i < untilAdditional && record.end - record.fixed >= 10 + 20) {
      negativeS = Math.min(ttl, reply.readUInt32BE(record.end - 4));
    }
  }
  const negative = answerCount === 0 || rcode === rcodes.nxDomain;
  if (!negative) return { ttlS, ttlOffsets };
  if (negativeS === undefined) return undefined;
  return { ttlS: Math.min(ttlS, negativeS, longestNegativeTtl), ttlOffsets };
}
