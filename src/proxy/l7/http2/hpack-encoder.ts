import { defaults } from "./frames.ts";
import { entryOverhead, staticTable } from "./hpack-table.ts";

/**
 * Fields that are never put into a table: connections carry several callers, and whoever can make one of them send a
 * guess would learn from its length whether it was right (RFC 7541 §7.1).
 */
const secret = new Set(["authorization", "cookie", "proxy-authorization", "set-cookie"]);

/** So many new values in a row, and a field is taken for one that is another each time: it is told without the table … */
const newInARow = 8;
/** … but once in so many, to see whether that is still so. */
const triedAgain = 64;

/** Names that a connection has sent are forgotten when they are more than this; those in the table stay. */
const mostNames = 512;

interface FixedName {
  readonly index: number;
  readonly values: Map<string, number>;
}
const fixedNames = new Map<string, FixedName>();
for (const [at, [name, value]] of staticTable.entries()) {
  let fixed = fixedNames.get(name);
  if (!fixed) {
    fixed = { index: at + 1, values: new Map() };
    fixedNames.set(name, fixed);
  }
  if (value !== "" || name === ":authority") fixed.values.set(value, at + 1);
}

/** What one connection has sent under one name. */
interface KnownName {
  readonly name: string;
  readonly fixed: FixedName | undefined;
  readonly secret: boolean;
  /** The entries of the table, by their values; entries count from 1 as they were made. */
  readonly entries: Map<string, number>;
  /** The newest entry of this name; 0 when there was none. */
  newest: number;
  newInARow: number;
}

/** The most that `encode` writes for these fields, in bytes. */
export function mostBytesOf(fields: readonly string[]): number {
  // Two lengths of at most five bytes each a field, and two changes of the table's size.
  let bytes = 12;
  for (let i = 0; i < fields.length; i++) bytes += fields[i]!.length + 6;
  return bytes;
}

/**
 * Makes the header blocks of one connection (RFC 7541). Strings are written plain, not in Huffman's code: that saves a
 * part of what is not in the table, and takes a loop over each letter of it.
 */
export class HpackEncoder {
  #capacity: number = defaults.headerTableSize;
  #size = 0;
  /** The table, oldest first from `#oldest` on. */
  #names: KnownName[] = [];
  #values: string[] = [];
  #oldest = 0;
  /** Entries made and entries dropped since the connection began. */
  #made = 0;
  #dropped = 0;
  #known = new Map<string, KnownName>();
  /** Changes of the table's size that the peer has not been told of. */
  #changes: number[] = [];

  /** The peer holds a table of at most so many bytes. It is never made larger than by default. */
  resize(most: number): void {
    const capacity = Math.min(most, defaults.headerTableSize);
    if (capacity === this.#capacity && this.#changes.length === 0) return;
    // The smallest of all that were set meanwhile must be told, and the last (RFC 7541 §4.2).
    const smallest = Math.min(capacity, ...this.#changes);
    this.#changes = smallest < capacity ? [smallest, capacity] : [capacity];
    this.#capacity = capacity;
    this.#evictTo(smallest);
  }

  /** Writes the fields, names and values in turns, into `out` from `at` on; returns where they end. */
  encode(fields: readonly string[], out: Buffer, at: number): number {
    let to = at;
    if (this.#changes.length > 0) {
      for (const size of this.#changes) to = writeNumber(out, to, 0x20, 5, size);
      this.#changes = [];
    }
    for (let i = 0; i < fields.length; i += 2) to = this.#field(fields[i]!, fields[i + 1]!, out, to);
    return to;
  }

  #field(name: string, value: string, out: Buffer, at: number): number {
    const known = this.#known.get(name) ?? this.#learn(name);
    const fixed = known.fixed?.values.get(value);
    if (fixed !== undefined) {
      out[at] = 0x80 | fixed;
      return at + 1;
    }
    if (known.secret) return writeLiteral(out, at, 0x10, 4, this.#nameIndex(known), name, value);
    const entry = known.entries.get(value);
    if (entry !== undefined) {
      known.newInARow = 0;
      return writeNumber(out, at, 0x80, 7, this.#indexOf(entry));
    }
    const size = name.length + value.length + entryOverhead;
    const seen = ++known.newInARow;
    if (size > this.#capacity / 2 || (seen > newInARow && seen % triedAgain !== 0))
      return writeLiteral(out, at, 0, 4, this.#nameIndex(known), name, value);
    const to = writeLiteral(out, at, 0x40, 6, this.#nameIndex(known), name, value);
    this.#insert(known, value, size);
    return to;
  }

  #indexOf(entry: number): number {
    return staticTable.length + 1 + this.#made - entry;
  }

  /** Of the name alone; 0 when no table has it. */
  #nameIndex(known: KnownName): number {
    if (known.fixed) return known.fixed.index;
    return known.newest > this.#dropped ? this.#indexOf(known.newest) : 0;
  }

  #insert(known: KnownName, value: string, size: number): void {
    this.#evictTo(this.#capacity - size);
    this.#names.push(known);
    this.#values.push(value);
    this.#size += size;
    known.newest = ++this.#made;
    known.entries.set(value, this.#made);
  }

  #evictTo(size: number): void {
    while (this.#size > size) {
      const known = this.#names[this.#oldest]!;
      const value = this.#values[this.#oldest++]!;
      this.#size -= known.name.length + value.length + entryOverhead;
      this.#dropped++;
      if (known.entries.get(value) === this.#dropped) known.entries.delete(value);
    }
    if (this.#oldest < 256 || this.#oldest * 2 < this.#names.length) return;
    this.#names = this.#names.slice(this.#oldest);
    this.#values = this.#values.slice(this.#oldest);
    this.#oldest = 0;
  }

  #learn(name: string): KnownName {
    if (this.#known.size >= mostNames)
      for (const [other, { entries }] of this.#known) if (entries.size === 0) this.#known.delete(other);
    const known: KnownName = {
      name,
      fixed: fixedNames.get(name),
      secret: secret.has(name),
      entries: new Map(),
      newest: 0,
      newInARow: 0,
    };
    this.#known.set(name, known);
    return known;
  }
}

function writeLiteral(
  out: Buffer,
  at: number,
  pattern: number,
  prefixBits: number,
  nameIndex: number,
  name: string,
  value: string,
): number {
  let to = writeNumber(out, at, pattern, prefixBits, nameIndex);
  if (nameIndex === 0) to = writeText(out, to, name);
  return writeText(out, to, value);
}

/** RFC 7541 §5.1. */
function writeNumber(out: Buffer, at: number, pattern: number, prefixBits: number, value: number): number {
  const most = (1 << prefixBits) - 1;
  let to = at;
  if (value < most) {
    out[to++] = pattern | value;
    return to;
  }
  out[to++] = pattern | most;
  let rest = value - most;
  while (rest >= 128) {
    out[to++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[to++] = rest;
  return to;
}

function writeText(out: Buffer, at: number, text: string): number {
  const { length } = text;
  const to = writeNumber(out, at, 0, 7, length);
  if (length > 24) out.write(text, to, "latin1");
  else for (let i = 0; i < length; i++) out[to + i] = text.charCodeAt(i);
  return to + length;
}
