import { type Ip, parseIp } from "../values/index.ts";
import {
  bitStringBytes,
  childrenOf,
  contextTag,
  DerCursor,
  type DerElement,
  encode,
  malformed,
  oid,
  oidText,
  sequence,
  setOf,
  tags,
  utf8String,
} from "./der.ts";

/** One entry of a subject alternative name (RFC 5280 §4.2.1.6). Text is as the certificate has it, NUL and all. */
export type GeneralName =
  | { readonly kind: "uri"; readonly value: string }
  | { readonly kind: "dns"; readonly value: string }
  | { readonly kind: "ip"; readonly value: Ip }
  | { readonly kind: "email"; readonly value: string }
  | { readonly kind: "other"; readonly tag: number };

/** An address needs none of a certificate's room, but a flood of names does. */
const nameLimit = 256;

export function readGeneralNames(element: DerElement): readonly GeneralName[] {
  if (element.tag !== tags.sequence) throw malformed("alternative names are no sequence");
  const names = childrenOf(element).map(readGeneralName);
  if (names.length === 0 || names.length > nameLimit) throw malformed(`${names.length} alternative names`);
  return names;
}

function readGeneralName(element: DerElement): GeneralName {
  switch (element.tag) {
    case contextTag(1, "primitive"):
      return { kind: "email", value: ia5(element) };
    case contextTag(2, "primitive"):
      return { kind: "dns", value: ia5(element) };
    case contextTag(6, "primitive"):
      return { kind: "uri", value: ia5(element) };
    case contextTag(7, "primitive"):
      return { kind: "ip", value: ipOf(element.content) };
    default:
      if ((element.tag & 0xc0) !== 0x80 || (element.tag & 0x1f) > 8) throw malformed("not a general name");
      return { kind: "other", tag: element.tag & 0x1f };
  }
}

export function ia5(element: DerElement): string {
  if (element.content.some((byte) => byte > 0x7f)) throw malformed("a name that is not ASCII");
  return element.content.toString("latin1");
}

function ipOf(bytes: Buffer): Ip {
  const text =
    bytes.length === 4
      ? bytes.join(".")
      : bytes.length === 16
        ? (bytes.toString("hex").match(/.{4}/g) ?? []).join(":")
        : undefined;
  const ip = text === undefined ? undefined : parseIp(text);
  if (!ip) throw malformed(`an address of ${bytes.length} bytes`);
  return ip;
}

export function encodeGeneralNames(names: readonly GeneralName[]): Buffer {
  return sequence(...names.map(encodeGeneralName));
}

function encodeGeneralName(name: GeneralName): Buffer {
  switch (name.kind) {
    case "email":
      return encode(contextTag(1, "primitive"), Buffer.from(name.value, "latin1"));
    case "dns":
      return encode(contextTag(2, "primitive"), Buffer.from(name.value, "latin1"));
    case "uri":
      return encode(contextTag(6, "primitive"), Buffer.from(name.value, "latin1"));
    case "ip":
      return encode(contextTag(7, "primitive"), ipBytes(name.value));
    case "other":
      throw new Error("BUG: a name of a kind that is only read");
  }
}

function ipBytes(ip: Ip): Buffer {
  if (!ip.includes(":")) return Buffer.from(ip.split(".").map(Number));
  // An embedded IPv4 tail is written out by parseIp already, so only groups and one "::" are left.
  const [head = "", tail] = ip.split("::");
  const groups = (text: string) => (text === "" ? [] : text.split(":"));
  const missing = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array<string>(missing).fill("0"), ...groups(tail ?? "")];
  return Buffer.from(all.map((group) => group.padStart(4, "0")).join(""), "hex");
}

const attributeNames: Readonly<Record<string, string>> = {
  "2.5.4.3": "CN",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
  "2.5.4.5": "serialNumber",
};

/** What of a distinguished name we write. */
export interface Subject {
  readonly organization?: string;
  readonly commonName?: string;
}

/** `Name` of RFC 5280 §4.1.2.4; without any part it is the empty subject. */
export function encodeSubject(subject: Subject): Buffer {
  const attribute = (type: string, value: string | undefined) =>
    value === undefined ? [] : [setOf(sequence(oid(type), utf8String(value)))];
  return sequence(...attribute("2.5.4.10", subject.organization), ...attribute("2.5.4.3", subject.commonName));
}

export interface NamePart {
  readonly type: string;
  readonly value: string;
}

/** Attributes of a distinguished name in their order, types in their usual short form where they have one. */
export function readSubject(element: DerElement): readonly NamePart[] {
  if (element.tag !== tags.sequence) throw malformed("a distinguished name is no sequence");
  return childrenOf(element).flatMap((relative) => {
    if (relative.tag !== tags.set) throw malformed("a relative name is no set");
    return childrenOf(relative).map((pair) => {
      const cursor = new DerCursor(pair, "name attribute");
      const type = oidText(cursor.take(tags.oid, "type"));
      const value = cursor.any("value");
      cursor.end();
      return { type: attributeNames[type] ?? type, value: directoryString(value) };
    });
  });
}

function directoryString(element: DerElement): string {
  switch (element.tag) {
    case tags.utf8String:
      return element.content.toString("utf8");
    case tags.printableString:
    case tags.ia5String:
    case tags.teletexString:
      return element.content.toString("latin1");
    case tags.bmpString:
      return Buffer.from(element.content)
        .subarray(0, element.content.length & ~1)
        .swap16()
        .toString("utf16le");
    case tags.bitString:
      return bitStringBytes(element).toString("hex");
    default:
      return `#${element.bytes.toString("hex")}`;
  }
}

/** `O=Isthmus, CN=Root CA`, with what could break a log line escaped. */
export function subjectText(parts: readonly NamePart[]): string {
  const shown = parts.map(({ type, value }) => `${type}=${value}`).join(", ");
  return JSON.stringify(shown.slice(0, 256)).slice(1, -1);
}
