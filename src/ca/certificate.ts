import { Failure } from "../base/index.ts";
import { type Ip, parseIp } from "../values/index.ts";
import {
  bitStringBytes,
  booleanValue,
  childrenOf,
  contextTag,
  DerCursor,
  type DerElement,
  decodeDer,
  integerBytes,
  malformed,
  namedBits,
  oidText,
  smallInteger,
  tags,
  timeMs,
} from "./der.ts";
import { type PublicKey, readPublicKey, readSignatureAlgorithm, type Signature, signatureHolds } from "./keys.ts";
import { type GeneralName, ia5, type NamePart, readGeneralNames, readSubject, subjectText } from "./names.ts";
import { decodePem, encodePem } from "./pem.ts";

/** Names that a CA may or may not certify (RFC 5280 §4.2.1.10), as far as workloads have them. */
export interface NameConstraints {
  readonly permitted: readonly ConstrainedName[];
  readonly excluded: readonly ConstrainedName[];
}

export type ConstrainedName =
  | { readonly kind: "uri" | "dns" | "email"; readonly value: string }
  | { readonly kind: "ip"; readonly bytes: Buffer }
  | { readonly kind: "other" };

/** An X.509 v3 certificate (RFC 5280), read and not yet believed. */
export interface Certificate {
  readonly der: Buffer;
  /** Hexadecimal. */
  readonly serial: string;
  /** Encoded names: two are the same name when their bytes are. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly subjectParts: readonly NamePart[];
  /** For a person: `O=Isthmus, CN=Root CA`, or the first alternative name where the subject is empty. */
  readonly title: string;
  /** Milliseconds since the epoch, both included. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: PublicKey;
  readonly isCa: boolean;
  /** How many more CAs may stand between this one and a leaf; undefined for any number. */
  readonly pathLength: number | undefined;
  /** Bits of RFC 5280 §4.2.1.3; undefined when the certificate does not say. */
  readonly keyUsage: ReadonlySet<number> | undefined;
  /** Dotted names; undefined when the certificate does not say. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly names: readonly GeneralName[];
  readonly nameConstraints: NameConstraints | undefined;
  readonly subjectKeyId: Buffer | undefined;
  readonly authorityKeyId: Buffer | undefined;
  /** Critical extensions that we do not know: who must not ignore them refuses the certificate. */
  readonly unknownCritical: readonly string[];
  readonly signed: Buffer;
  readonly signature: Signature;
}

export const keyUsageBits = { digitalSignature: 0, keyEncipherment: 2, certSign: 5, crlSign: 6 } as const;
export const extendedKeyUsages = {
  server: "1.3.6.1.5.5.7.3.1",
  client: "1.3.6.1.5.5.7.3.2",
  any: "2.5.29.37.0",
} as const;

export const extensionOids = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

/** Reads one certificate. Throws `ca/der-malformed` or `ca/weak-key`, and nothing else. */
export function decodeCertificate(der: Uint8Array): Certificate {
  const whole = new DerCursor(decodeDer(der), "certificate");
  const signed = whole.take(tags.sequence, "body");
  const algorithm = readSignatureAlgorithm(whole.take(tags.sequence, "signature algorithm"));
  const signature = { algorithm, bytes: bitStringBytes(whole.take(tags.bitString, "signature")) };
  whole.end();

  const body = new DerCursor(signed, "certificate body");
  const version = body.takeIf(contextTag(0, "constructed"));
  if (!version || smallInteger(onlyChild(version), "version") !== 2) throw malformed("certificate is not version 3");
  const serial = integerBytes(body.take(tags.integer, "serial number"));
  if (serial.length > 21) throw malformed("serial number of more than 20 bytes");
  if (readSignatureAlgorithm(body.take(tags.sequence, "inner signature algorithm")) !== algorithm)
    throw malformed("signature algorithm differs inside and outside");
  const issuer = body.take(tags.sequence, "issuer");
  const validity = new DerCursor(body.take(tags.sequence, "validity"), "validity");
  const notBefore = timeMs(validity.any("begin"));
  const notAfter = timeMs(validity.any("end"));
  validity.end();
  const subject = body.take(tags.sequence, "subject");
  const publicKey = readPublicKey(body.take(tags.sequence, "public key"));
  body.takeIf(contextTag(1, "primitive"));
  body.takeIf(contextTag(2, "primitive"));
  const list = body.takeIf(contextTag(3, "constructed"));
  body.end();
  const extensions = readExtensions(list ? onlyChild(list) : undefined);

  const subjectParts = readSubject(subject);
  const first = extensions.names[0];
  return {
    der: Buffer.from(der),
    serial: serial.toString("hex"),
    issuer: issuer.bytes,
    subject: subject.bytes,
    subjectParts,
    title: subjectParts.length > 0 ? subjectText(subjectParts) : nameText(first),
    notBefore,
    notAfter,
    publicKey,
    ...extensions,
    signed: signed.bytes,
    signature,
  };
}

function nameText(name: GeneralName | undefined): string {
  const text = name === undefined ? "without a name" : "value" in name ? name.value : `name of kind ${name.tag}`;
  return JSON.stringify(text.slice(0, 256)).slice(1, -1);
}

function onlyChild(parent: DerElement): DerElement {
  const [child, ...more] = childrenOf(parent);
  if (!child || more.length > 0) throw malformed("a wrapper around more or less than one element");
  return child;
}

type Extensions = Pick<
  Certificate,
  | "isCa"
  | "pathLength"
  | "keyUsage"
  | "extendedKeyUsage"
  | "names"
  | "nameConstraints"
  | "subjectKeyId"
  | "authorityKeyId"
  | "unknownCritical"
>;

function readExtensions(list: DerElement | undefined): Extensions {
  const found = new Map<string, DerElement>();
  const unknownCritical: string[] = [];
  const known = new Set<string>(Object.values(extensionOids));
  for (const extension of list ? childrenOf(list) : []) {
    const cursor = new DerCursor(extension, "extension");
    const name = oidText(cursor.take(tags.oid, "name"));
    const flag = cursor.takeIf(tags.boolean);
    // DER leaves defaults out, but an explicit FALSE is common enough in the wild to be read.
    const critical = flag !== undefined && booleanValue(flag);
    const value = cursor.take(tags.octetString, "value");
    cursor.end();
    if (found.has(name)) throw malformed(`extension "${name}" stands there twice`);
    found.set(name, value);
    if (critical && !known.has(name)) unknownCritical.push(name);
  }
  const read = <T>(name: string, how: (element: DerElement) => T): T | undefined => {
    const value = found.get(name);
    return value && how(decodeDer(value.content));
  };
  const basic = read(extensionOids.basicConstraints, readBasicConstraints);
  return {
    isCa: basic?.isCa ?? false,
    pathLength: basic?.pathLength,
    keyUsage: read(extensionOids.keyUsage, namedBits),
    extendedKeyUsage: read(extensionOids.extendedKeyUsage, (element) => childrenOf(element).map(oidText)),
    names: read(extensionOids.subjectAltName, readGeneralNames) ?? [],
    nameConstraints: read(extensionOids.nameConstraints, readNameConstraints),
    subjectKeyId: read(extensionOids.subjectKeyId, octets),
    authorityKeyId: read(
      extensionOids.authorityKeyId,
      (element) => childrenOf(element).find((child) => child.tag === contextTag(0, "primitive"))?.content,
    ),
    unknownCritical,
  };
}

function octets(element: DerElement): Buffer {
  if (element.tag !== tags.octetString) throw malformed("key identifier is no octet string");
  return element.content;
}

function readBasicConstraints(element: DerElement): { isCa: boolean; pathLength: number | undefined } {
  const cursor = new DerCursor(element, "basic constraints");
  const flag = cursor.takeIf(tags.boolean);
  const length = cursor.takeIf(tags.integer);
  cursor.end();
  return { isCa: flag !== undefined && booleanValue(flag), pathLength: length && smallInteger(length, "path length") };
}

function readNameConstraints(element: DerElement): NameConstraints {
  const cursor = new DerCursor(element, "name constraints");
  const permitted = cursor.takeIf(contextTag(0, "constructed"));
  const excluded = cursor.takeIf(contextTag(1, "constructed"));
  cursor.end();
  const subtrees = (list: DerElement | undefined): ConstrainedName[] =>
    (list ? childrenOf(list) : []).map((subtree) => {
      const parts = new DerCursor(subtree, "name constraint");
      const base = parts.any("base");
      // minimum 0 and no maximum is all that RFC 5280 allows, and DER leaves both out.
      parts.end();
      switch (base.tag) {
        case contextTag(1, "primitive"):
          return { kind: "email", value: ia5(base) };
        case contextTag(2, "primitive"):
          return { kind: "dns", value: ia5(base) };
        case contextTag(6, "primitive"):
          return { kind: "uri", value: ia5(base) };
        case contextTag(7, "primitive"):
          return { kind: "ip", bytes: base.content };
        default:
          return { kind: "other" };
      }
    });
  return { permitted: subtrees(permitted), excluded: subtrees(excluded) };
}

/** All certificates of a PEM text, in order. Throws when there is none, or anything but certificates. */
export function decodeCertificates(pem: string): readonly Certificate[] {
  const blocks = decodePem(pem);
  if (blocks.length === 0)
    throw new Failure("ca/pem-malformed", "no certificate in it", {
      hint: "PEM begins with -----BEGIN CERTIFICATE-----",
    });
  return blocks.map(({ label, der }) => {
    if (label !== "CERTIFICATE") throw new Failure("ca/pem-malformed", `"${label}" where only certificates may stand`);
    return decodeCertificate(der);
  });
}

export function certificatePem(certificate: Certificate): string {
  return encodePem("CERTIFICATE", certificate.der);
}

/** Whether `issuer` is named as the issuer and its key made the signature. Says nothing on whether it was allowed to. */
export function issuedBy(certificate: Certificate, issuer: Certificate): boolean {
  return namesIssuer(certificate, issuer) && signatureFits(certificate, issuer);
}

/** The cheap half of `issuedBy`: names, and key identifiers where both have one. */
export function namesIssuer(certificate: Certificate, issuer: Certificate): boolean {
  if (!certificate.issuer.equals(issuer.subject)) return false;
  const { authorityKeyId } = certificate;
  return !authorityKeyId || !issuer.subjectKeyId || authorityKeyId.equals(issuer.subjectKeyId);
}

export function signatureFits(certificate: Certificate, issuer: Certificate): boolean {
  return signatureHolds({ bytes: certificate.signed, signature: certificate.signature, key: issuer.publicKey });
}

export function isSelfSigned(certificate: Certificate): boolean {
  return certificate.issuer.equals(certificate.subject) && signatureFits(certificate, certificate);
}

export function dnsNamesOf(certificate: Certificate): readonly string[] {
  return certificate.names.flatMap((name) => (name.kind === "dns" ? [name.value] : []));
}

export function ipsOf(certificate: Certificate): readonly Ip[] {
  return certificate.names.flatMap((name) => (name.kind === "ip" ? [parseIp(name.value)!] : []));
}
