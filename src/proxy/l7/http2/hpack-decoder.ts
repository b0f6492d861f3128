import { isFieldName, isFieldValue } from "../headers.ts";
import { ConnectionError, codes, defaults } from "./frames.ts";
import { entryOverhead, staticTable } from "./hpack-table.ts";
import { decodeHuffman } from "./huffman.ts";

/** The fields of one block: names and values in turns, pseudo-fields (`:path`) among them as they came. */
export type FieldBlock =
  | { readonly kind: "fields"; readonly fields: string[] }
  /** More than was allowed; it has been read to its end, so that the next can be. */
  | { readonly kind: "too-large" }
  /** A name or value with characters that none may have (RFC 9113 §8.2.1). */
  | { readonly kind: "malformed" };

/** No length or index is longer; in what it may take of a block, an honest one is far below. */
const mostNumber = 2 ** 28;

interface Entry {
  readonly name: string;
  readonly value: string;
  readonly nameSound: boolean;
  readonly sound: boolean;
  readonly size: number;
}

const fixed: readonly Entry[] = staticTable.map(([name, value]) => ({
  name,
  value,
  nameSound: true,
  sound: true,
  size: 0,
}));

/** Reads the header blocks of one connection (RFC 7541). */
export class HpackDecoder {
  #capacity: number = defaults.headerTableSize;
  #size = 0;
  /** Newest last. */
  #entries: Entry[] = [];
  #oldest = 0;
  // What is being read.
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /** Throws `ConnectionError` where the block is none: nothing that follows could be understood. */
  decode(block: Buffer, most: { readonly bytes: number; readonly fields: number }): FieldBlock {
    this.#block = block;
    this.#at = 0;
    const fields: string[] = [];
    let bytes = 0;
    let sound = true;
    let tooLarge = false;
    let changes = 0;
    while (this.#at < block.length) {
      const first = block[this.#at]!;
      let entry: Entry;
      if (first >= 0x80) entry = this.#entry(this.#number(7));
      else if (first >= 0x40) {
        entry = this.#literal(6);
        this.#insert(entry);
      } else if (first < 0x20) entry = this.#literal(4);
      else {
        const capacity = this.#number(5);
        if (fields.length > 0 || ++changes > 2 || capacity > defaults.headerTableSize)
          throw new ConnectionError(codes.compressionError, "a change of the table's size where none may be");
        this.#capacity = capacity;
        this.#evictTo(capacity);
        continue;
      }
      bytes += entry.name.length + entry.value.length + entryOverhead;
      if (tooLarge) continue;
      if (bytes > most.bytes || fields.length >= most.fields * 2) tooLarge = true;
      else fields.push(entry.name, entry.value);
      if (!entry.sound) sound = false;
    }
    this.#block = empty;
    if (tooLarge) return { kind: "too-large" };
    return sound ? { kind: "fields", fields } : { kind: "malformed" };
  }

  #entry(index: number): Entry {
    if (index > 0 && index <= fixed.length) return fixed[index - 1]!;
    const at = this.#entries.length - (index - fixed.length);
    if (index === 0 || at < this.#oldest) throw broken(`an index of ${index}, which no table has`);
    return this.#entries[at]!;
  }

  #literal(prefixBits: number): Entry {
    const index = this.#number(prefixBits);
    let name: string;
    let nameSound: boolean;
    if (index > 0) ({ name, nameSound } = this.#entry(index));
    else {
      name = this.#text();
      nameSound = isFieldName(name.charCodeAt(0) === 58 ? name.slice(1) : name);
    }
    const value = this.#text();
    const size = name.length + value.length + entryOverhead;
    return { name, value, nameSound, sound: nameSound && isFieldValue(value), size };
  }

  #insert(entry: Entry): void {
    this.#evictTo(this.#capacity - entry.size);
    if (entry.size > this.#capacity) return;
    this.#entries.push(entry);
    this.#size += entry.size;
  }

  #evictTo(size: number): void {
    while (this.#size > size && this.#oldest < this.#entries.length) this.#size -= this.#entries[this.#oldest++]!.size;
    if (this.#oldest < 256 || this.#oldest * 2 < this.#entries.length) return;
    this.#entries = this.#entries.slice(this.#oldest);
    this.#oldest = 0;
  }

  /** RFC 7541 §5.1. */
  #number(prefixBits: number): number {
    const block = this.#block;
    const most = (1 << prefixBits) - 1;
    let value = block[this.#at++]! & most;
    if (value < most) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= block.length || shift > 28) throw broken("a number without end");
      const byte = block[this.#at++]!;
      value += (byte & 127) * 2 ** shift;
      if (value > mostNumber) throw broken("a number that is too large");
      if (byte < 128) return value;
    }
  }

  #text(): string {
    if (this.#at >= this.#block.length) throw broken("it ends inside a field");
    const huffman = this.#block[this.#at]! >= 128;
    const length = this.#number(7);
    const from = this.#at;
    const to = from + length;
    if (to > this.#block.length) throw broken("a text longer than the block");
    this.#at = to;
    if (!huffman) return this.#block.toString("latin1", from, to);
    const text = decodeHuffman(this.#block, from, to);
    if (text === undefined) throw broken("a text that is not in Huffman's code");
    return text;
  }
}

const empty = Buffer.alloc(0);

function broken(what: string): ConnectionError {
  return new ConnectionError(codes.compressionError, `a header block with ${what}`);
}
