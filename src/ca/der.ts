import { Failure } from "../base/index.ts";

/**
 * DER (X.690 §10) as far as certificates and requests need it: definite lengths in their shortest form, one-byte tags,
 * bounded size and depth. What is not exactly so is refused with `ca/der-malformed`.
 */

/** Largest message in bytes: a certificate with an RSA-4096 key and a few names takes 2 KiB. */
export const derSizeLimit = 64 * 1024;
/** Certificates nest eight deep; more is somebody trying our stack. */
const depthLimit = 16;
/** Elements of one parent. */
const widthLimit = 1024;

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Identifier octet of `[number]`, constructed (it holds elements) or primitive (it holds bytes). */
export function contextTag(number: number, form: "constructed" | "primitive"): number {
  return (form === "constructed" ? 0xa0 : 0x80) | number;
}

export interface DerElement {
  /** The identifier octet: class, form and number. */
  readonly tag: number;
  /** Header and content. */
  readonly bytes: Buffer;
  readonly content: Buffer;
  readonly depth: number;
}

export function malformed(why: string): Failure {
  return new Failure("ca/der-malformed", `malformed DER: ${why}`);
}

/** The one element that `bytes` are; nothing may follow it. */
export function decodeDer(bytes: Uint8Array): DerElement {
  if (bytes.length > derSizeLimit) throw malformed(`${bytes.length} bytes, more than ${derSizeLimit}`);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const element = elementAt(buffer, 0, 0);
  if (element.bytes.length !== buffer.length)
    throw malformed(`${buffer.length - element.bytes.length} bytes after the end`);
  return element;
}

/** The elements inside a constructed one. */
export function childrenOf(parent: DerElement): readonly DerElement[] {
  if ((parent.tag & 0x20) === 0) throw malformed(`tag 0x${parent.tag.toString(16)} holds no elements`);
  return elementsIn(parent.content, parent.depth + 1);
}

function elementsIn(content: Buffer, depth: number): readonly DerElement[] {
  const children: DerElement[] = [];
  for (let offset = 0; offset < content.length; ) {
    if (children.length === widthLimit) throw malformed(`more than ${widthLimit} elements in one`);
    const child = elementAt(content, offset, depth);
    children.push(child);
    offset += child.bytes.length;
  }
  return children;
}

function elementAt(buffer: Buffer, offset: number, depth: number): DerElement {
  if (depth > depthLimit) throw malformed(`nested deeper than ${depthLimit}`);
  const tag = buffer[offset];
  const first = buffer[offset + 1];
  if (tag === undefined || first === undefined) throw malformed("cut off in a header");
  if ((tag & 0x1f) === 0x1f) throw malformed("tag of more than one byte");
  if (tag === 0) throw malformed("tag 0");
  let start = offset + 2;
  let length = first;
  if (first === 0x80) throw malformed("indefinite length");
  if (first > 0x80) {
    const count = first & 0x7f;
    if (count > 3) throw malformed("length of more than three bytes");
    if (start + count > buffer.length) throw malformed("cut off in a length");
    length = buffer.readUIntBE(start, count);
    if (length < 0x80 || (count > 1 && buffer[start] === 0)) throw malformed("length not in its shortest form");
    start += count;
  }
  if (start + length > buffer.length) throw malformed("cut off in a value");
  return {
    tag,
    bytes: buffer.subarray(offset, start + length),
    content: buffer.subarray(start, start + length),
    depth,
  };
}

/** Takes the elements of a sequence in order, each with the tag that must be there. */
export class DerCursor {
  readonly #elements: readonly DerElement[];
  readonly #what: string;
  #next = 0;

  constructor(parent: DerElement, what: string, tag: number = tags.sequence) {
    if (parent.tag !== tag) throw malformed(`${what}: tag 0x${parent.tag.toString(16)}, not 0x${tag.toString(16)}`);
    this.#elements = childrenOf(parent);
    this.#what = what;
  }

  take(tag: number, name: string): DerElement {
    const element = this.takeIf(tag);
    if (element) return element;
    const found = this.#elements[this.#next];
    throw malformed(`${this.#what}: ${name} ${found ? `has tag 0x${found.tag.toString(16)}` : "is missing"}`);
  }

  takeIf(tag: number): DerElement | undefined {
    const element = this.#elements[this.#next];
    if (element?.tag !== tag) return undefined;
    this.#next++;
    return element;
  }

  any(name: string): DerElement {
    const element = this.#elements[this.#next++];
    if (!element) throw malformed(`${this.#what}: ${name} is missing`);
    return element;
  }

  rest(): readonly DerElement[] {
    const rest = this.#elements.slice(this.#next);
    this.#next = this.#elements.length;
    return rest;
  }

  end(): void {
    if (this.#next < this.#elements.length) throw malformed(`${this.#what}: more elements than it may have`);
  }
}

/** Content of an INTEGER, two's complement in its shortest form. */
export function integerBytes(element: DerElement): Buffer {
  const { content } = element;
  if (element.tag !== tags.integer || content.length === 0) throw malformed("integer without a value");
  const second = content[1];
  if (second !== undefined && ((content[0] === 0 && second < 0x80) || (content[0] === 0xff && second >= 0x80)))
    throw malformed("integer not in its shortest form");
  return content;
}

/** An INTEGER from 0 to 2^31 − 1. */
export function smallInteger(element: DerElement, what: string): number {
  const content = integerBytes(element);
  if (content.length > 4 || content[0]! >= 0x80) throw malformed(`${what} is negative or too large`);
  return content.readUIntBE(0, content.length);
}

export function booleanValue(element: DerElement): boolean {
  const { content } = element;
  if (element.tag !== tags.boolean || content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
    throw malformed("boolean is neither 00 nor FF");
  return content[0] === 0xff;
}

/** Bits of a BIT STRING whose length is whole bytes, as keys and signatures are. */
export function bitStringBytes(element: DerElement): Buffer {
  if (element.tag !== tags.bitString || element.content[0] !== 0) throw malformed("bit string is not whole bytes");
  return element.content.subarray(1);
}

/** Numbers of the bits that are set in a BIT STRING of named bits. */
export function namedBits(element: DerElement): ReadonlySet<number> {
  const { content } = element;
  const unused = content[0];
  if (element.tag !== tags.bitString || unused === undefined || unused > 7 || (content.length === 1 && unused > 0))
    throw malformed("bit string with a wrong count of unused bits");
  if (content.length > 5) throw malformed("more than 32 named bits");
  const last = content[content.length - 1]!;
  if (content.length > 1 && (last & ((1 << unused) - 1)) !== 0) throw malformed("unused bits are not zero");
  const bits = new Set<number>();
  for (let bit = 0; bit < (content.length - 1) * 8; bit++) {
    if (content[1 + (bit >> 3)]! & (0x80 >> (bit & 7))) bits.add(bit);
  }
  return bits;
}

/** Dotted form of an OBJECT IDENTIFIER. */
export function oidText(element: DerElement): string {
  const { content } = element;
  if (element.tag !== tags.oid || content.length === 0 || content.length > 64)
    throw malformed("not an object identifier");
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 0x80) throw malformed("object identifier not in its shortest form");
    arc = arc * 128 + (byte & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER) throw malformed("object identifier too large");
    fresh = byte < 0x80;
    if (fresh) {
      arcs.push(arc);
      arc = 0;
    }
  }
  if (!fresh) throw malformed("object identifier cut off");
  const first = arcs[0]!;
  const top = Math.min(2, Math.floor(first / 40));
  return [top, first - top * 40, ...arcs.slice(1)].join(".");
}

/** UTCTime or GeneralizedTime in the only form RFC 5280 §4.1.2.5 allows, as milliseconds since the epoch. */
export function timeMs(element: DerElement): number {
  const text = element.content.toString("latin1");
  const form = element.tag === tags.utcTime ? /^\d{12}Z$/ : element.tag === tags.generalizedTime ? /^\d{14}Z$/ : null;
  if (!form?.test(text)) throw malformed("time in a form that certificates may not have");
  const [year, rest] =
    element.tag === tags.utcTime
      ? [Number(text.slice(0, 2)) + (Number(text.slice(0, 2)) >= 50 ? 1900 : 2000), text.slice(2)]
      : [Number(text.slice(0, 4)), text.slice(4)];
  const part = (index: number) => rest.slice(index * 2, index * 2 + 2);
  const iso = `${String(year).padStart(4, "0")}-${part(0)}-${part(1)}T${part(2)}:${part(3)}:${part(4)}.000Z`;
  const ms = Date.parse(iso);
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== iso) throw malformed(`no such time: "${text}"`);
  return ms;
}

// Writing. Every function gives one whole element.

export function encode(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : length < 0x10000
          ? [tag, 0x82, length >> 8, length & 0xff]
          : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  const out = Buffer.allocUnsafe(header.length + length);
  out.set(header, 0);
  out.set(content, header.length);
  return out;
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return encode(tags.sequence, Buffer.concat(parts));
}

export function setOf(...parts: readonly Uint8Array[]): Buffer {
  return encode(tags.set, Buffer.concat([...parts].sort((a, b) => Buffer.compare(a, b))));
}

/** `[number]` around whole elements. */
export function explicit(number: number, ...parts: readonly Uint8Array[]): Buffer {
  return encode(contextTag(number, "constructed"), Buffer.concat(parts));
}

/** A positive INTEGER of these big-endian bytes. */
export function unsignedInteger(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const shortest = bytes.subarray(start);
  return encode(tags.integer, shortest[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), shortest]) : shortest);
}

export function integer(value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(value, 0, 6);
  return unsignedInteger(bytes);
}

export const encodedTrue = Buffer.of(tags.boolean, 1, 0xff);
export const encodedNull = Buffer.of(tags.null, 0);

export function octetString(bytes: Uint8Array): Buffer {
  return encode(tags.octetString, bytes);
}

export function bitString(bytes: Uint8Array): Buffer {
  return encode(tags.bitString, Buffer.concat([Buffer.of(0), bytes]));
}

/** A BIT STRING of named bits, all below 16, without trailing zeros (X.690 §11.2.2). */
export function namedBitString(bits: readonly number[]): Buffer {
  const highest = Math.max(...bits);
  const bytes = Buffer.alloc(1 + (highest >> 3) + 1);
  bytes[0] = 7 - (highest & 7);
  for (const bit of bits) bytes[1 + (bit >> 3)]! |= 0x80 >> (bit & 7);
  return encode(tags.bitString, bytes);
}

const oidByText = new Map<string, Buffer>();

export function oid(text: string): Buffer {
  const known = oidByText.get(text);
  if (known) return known;
  const [top = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes = [top * 40 + second, ...rest].flatMap((arc) => {
    const groups = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left & 0x7f) | 0x80);
    return groups;
  });
  const encoded = encode(tags.oid, Buffer.from(bytes));
  oidByText.set(text, encoded);
  return encoded;
}

export function utf8String(text: string): Buffer {
  return encode(tags.utf8String, Buffer.from(text, "utf8"));
}

/** Whole seconds; UTCTime up to 2049 and GeneralizedTime after, as RFC 5280 §4.1.2.5 wants. */
export function time(ms: number): Buffer {
  const digits = new Date(Math.floor(ms / 1000) * 1000)
    .toISOString()
    .replace(/\.\d+Z$/, "")
    .replace(/\D/g, "");
  const year = Number(digits.slice(0, 4));
  return year >= 1950 && year < 2050
    ? encode(tags.utcTime, Buffer.from(`${digits.slice(2)}Z`, "latin1"))
    : encode(tags.generalizedTime, Buffer.from(`${digits}Z`, "latin1"));
}
