import type { KeyObject } from "node:crypto";
import { Failure } from "../base/index.ts";
import { extensionOids } from "./certificate.ts";
import {
  bitString,
  bitStringBytes,
  contextTag,
  DerCursor,
  decodeDer,
  encode,
  explicit,
  integer,
  octetString,
  oid,
  sequence,
  setOf,
  smallInteger,
  tags,
} from "./der.ts";
import {
  type PublicKey,
  publicKeyOf,
  readPublicKey,
  readSignatureAlgorithm,
  signatureAlgorithmFor,
  signatureHolds,
  signWith,
} from "./keys.ts";
import { encodeGeneralNames, encodeSubject, type GeneralName, readSubject } from "./names.ts";
import { decodePem, encodePem } from "./pem.ts";

/** Largest request in characters: RSA 8192 and a page of names. */
const csrLimit = 16 * 1024;

/**
 * A PKCS#10 request (RFC 2986) in PEM to the one thing that we take from it: its key, which the requester has proven to
 * hold. Names and extensions in it are wishes, and not read. Throws `ca/csr-malformed`, `ca/csr-signature` or
 * `ca/weak-key`, and nothing else.
 */
export function decodeCsr(pem: string): PublicKey {
  if (pem.length > csrLimit) throw malformedCsr(`${pem.length} characters, more than ${csrLimit}`);
  let key: PublicKey;
  let holds: boolean;
  try {
    const [block, ...more] = decodePem(pem);
    if (!block || more.length > 0) throw malformedCsr(block ? "more than one block" : "no PEM in it");
    if (block.label !== "CERTIFICATE REQUEST" && block.label !== "NEW CERTIFICATE REQUEST")
      throw malformedCsr(`a PEM of "${block.label}"`);
    const whole = new DerCursor(decodeDer(block.der), "request");
    const signed = whole.take(tags.sequence, "body");
    const algorithm = readSignatureAlgorithm(whole.take(tags.sequence, "signature algorithm"));
    const bytes = bitStringBytes(whole.take(tags.bitString, "signature"));
    whole.end();
    const body = new DerCursor(signed, "request body");
    if (smallInteger(body.take(tags.integer, "version"), "version") !== 0) throw malformedCsr("not version 1");
    readSubject(body.take(tags.sequence, "subject"));
    key = readPublicKey(body.take(tags.sequence, "public key"));
    body.takeIf(contextTag(0, "constructed"));
    body.end();
    if (key.type.kind === "ec" && key.type.curve === "P-521")
      throw new Failure("ca/weak-key", "key refused: P-521 is not for workloads", { hint: "use ECDSA P-256" });
    holds = signatureHolds({ bytes: signed.bytes, signature: { algorithm, bytes }, key });
  } catch (caught) {
    if (!(caught instanceof Failure)) throw caught;
    if (caught.code === "ca/weak-key" || caught.code === "ca/csr-malformed") throw caught;
    throw malformedCsr(caught.message);
  }
  if (!holds)
    throw new Failure(
      "ca/csr-signature",
      "certificate request: its signature was not made by its own key with SHA-256 or better",
    );
  return key;
}

function malformedCsr(why: string): Failure {
  return new Failure("ca/csr-malformed", `certificate request: ${why}`);
}

/** A request for this key; `names` tell who reads it what is hoped for. */
export function encodeCsr(privateKey: KeyObject, names: readonly GeneralName[] = []): string {
  const wishes =
    names.length === 0
      ? []
      : [
          sequence(
            oid("1.2.840.113549.1.9.14"),
            setOf(sequence(sequence(oid(extensionOids.subjectAltName), octetString(encodeGeneralNames(names))))),
          ),
        ];
  const attributes =
    wishes.length === 0 ? encode(contextTag(0, "constructed"), Buffer.alloc(0)) : explicit(0, ...wishes);
  const body = sequence(integer(0), encodeSubject({}), publicKeyOf(privateKey).spki, attributes);
  const algorithm = signatureAlgorithmFor(privateKey);
  return encodePem("CERTIFICATE REQUEST", sequence(body, algorithm, bitString(signWith(privateKey, body))));
}
