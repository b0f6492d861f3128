import { createHash, type KeyObject, randomBytes } from "node:crypto";
import { extendedKeyUsages, extensionOids, keyUsageBits } from "./certificate.ts";
import {
  bitString,
  contextTag,
  encode,
  encodedTrue,
  explicit,
  integer,
  namedBitString,
  octetString,
  oid,
  sequence,
  time,
  unsignedInteger,
} from "./der.ts";
import { type PublicKey, signatureAlgorithmFor, signWith } from "./keys.ts";
import { encodeGeneralNames, encodeSubject, type GeneralName, type Subject } from "./names.ts";

/** Who signs: the name and key identifier that its own certificate has, and its key. */
export interface Signer {
  /** Encoded name. */
  readonly subject: Buffer;
  /** Undefined when the signer's certificate has no key identifier to point at. */
  readonly keyId: Buffer | undefined;
  readonly privateKey: KeyObject;
}

export interface CertificateRequest {
  readonly subject: Subject;
  readonly publicKey: PublicKey;
  readonly names: readonly GeneralName[];
  /** Milliseconds since the epoch; cut to whole seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly use: { readonly kind: "leaf" } | { readonly kind: "ca"; readonly pathLength: number | undefined };
}

/** The last second that a certificate can name. */
export const endOfTime = Date.UTC(9999, 11, 31, 23, 59, 59);

/** 127 random bits under a set one: positive, never zero, always 16 bytes, hard to guess (RFC 5280 §4.1.2.2). */
function randomSerial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

/** SHA-1 of the key's bits, the first method of RFC 5280 §4.2.1.2: a label, not a proof. */
export function keyIdOf(key: PublicKey): Buffer {
  return createHash("sha1").update(key.bits).digest();
}

const fixed = {
  leaf: extension(extensionOids.basicConstraints, true, sequence()),
  leafUsageEc: extension(extensionOids.keyUsage, true, namedBitString([keyUsageBits.digitalSignature])),
  leafUsageRsa: extension(
    extensionOids.keyUsage,
    true,
    namedBitString([keyUsageBits.digitalSignature, keyUsageBits.keyEncipherment]),
  ),
  leafPurposes: extension(
    extensionOids.extendedKeyUsage,
    false,
    sequence(oid(extendedKeyUsages.server), oid(extendedKeyUsages.client)),
  ),
  caUsage: extension(extensionOids.keyUsage, true, namedBitString([keyUsageBits.certSign, keyUsageBits.crlSign])),
};

/** Makes and signs a version 3 certificate; the DER of it. A root's signer is its own name and key. */
export function issueCertificate(request: CertificateRequest, signer: Signer): Buffer {
  const { publicKey, names, use } = request;
  const subject = encodeSubject(request.subject);
  const algorithm = signatureAlgorithmFor(signer.privateKey);
  const extensions = [
    ...(use.kind === "ca"
      ? [
          extension(
            extensionOids.basicConstraints,
            true,
            sequence(encodedTrue, ...(use.pathLength === undefined ? [] : [integer(use.pathLength)])),
          ),
          fixed.caUsage,
        ]
      : [fixed.leaf, publicKey.type.kind === "rsa" ? fixed.leafUsageRsa : fixed.leafUsageEc, fixed.leafPurposes]),
    extension(extensionOids.subjectKeyId, false, octetString(keyIdOf(publicKey))),
    ...(signer.keyId
      ? [extension(extensionOids.authorityKeyId, false, sequence(encode(contextTag(0, "primitive"), signer.keyId)))]
      : []),
    // Without a subject the names are all there is, so who cannot read them must not go on (RFC 5280 §4.2.1.6).
    ...(names.length > 0
      ? [extension(extensionOids.subjectAltName, subject.length === 2, encodeGeneralNames(names))]
      : []),
  ];
  const body = sequence(
    explicit(0, integer(2)),
    unsignedInteger(randomSerial()),
    algorithm,
    signer.subject,
    sequence(time(request.notBefore), time(Math.min(request.notAfter, endOfTime))),
    subject,
    publicKey.spki,
    explicit(3, sequence(...extensions)),
  );
  return sequence(body, algorithm, bitString(signWith(signer.privateKey, body)));
}

function extension(name: string, critical: boolean, value: Uint8Array): Buffer {
  return sequence(oid(name), ...(critical ? [encodedTrue] : []), octetString(value));
}
