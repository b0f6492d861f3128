import {
  createPublicKey,
  generateKeyPair,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  sign as signBytes,
  verify as verifyBytes,
} from "node:crypto";
import { promisify } from "node:util";
import { Failure } from "../base/index.ts";
import {
  bitStringBytes,
  DerCursor,
  type DerElement,
  decodeDer,
  encodedNull,
  integerBytes,
  malformed,
  oid,
  oidText,
  sequence,
  smallInteger,
  tags,
} from "./der.ts";

/** The kinds of key that we make. */
export const keyTypes = ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"] as const;
export type KeyType = (typeof keyTypes)[number];

export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** For where waiting a tenth of a second or more (RSA) hurts nobody: a command, a test. */
export function makeKeyPair(type: KeyType): KeyPair {
  return type.startsWith("rsa-")
    ? generateKeyPairSync("rsa", { modulusLength: Number(type.slice(4)) })
    : generateKeyPairSync("ec", { namedCurve: type === "ec-p384" ? "P-384" : "P-256" });
}

const generateInBackground = promisify(generateKeyPair);

/** Beside a data path: elliptic keys take 60 µs and are made at once, RSA ones on another thread. */
export async function makeKeyPairInBackground(type: KeyType): Promise<KeyPair> {
  if (!type.startsWith("rsa-")) return makeKeyPair(type);
  return generateInBackground("rsa", { modulusLength: Number(type.slice(4)) });
}

export type PublicKeyKind =
  | { readonly kind: "ec"; readonly curve: "P-256" | "P-384" | "P-521" }
  | { readonly kind: "rsa"; readonly bits: number };

/** A public key that was looked at before OpenSSL got to see it. */
export interface PublicKey {
  /** SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** The bits inside, of which the usual key identifier is the SHA-1 (RFC 5280 §4.2.1.2). */
  readonly bits: Buffer;
  readonly type: PublicKeyKind;
  readonly object: KeyObject;
}

const ecPublicKey = "1.2.840.10045.2.1";
const rsaEncryption = "1.2.840.113549.1.1.1";
const curves: Readonly<Record<string, { readonly curve: "P-256" | "P-384" | "P-521"; readonly bytes: number }>> = {
  "1.2.840.10045.3.1.7": { curve: "P-256", bytes: 32 },
  "1.3.132.0.34": { curve: "P-384", bytes: 48 },
  "1.3.132.0.35": { curve: "P-521", bytes: 66 },
};

/**
 * A SubjectPublicKeyInfo with a named curve and an uncompressed point, or RSA of 2048 to 8192 bits. Curves given by their
 * parameters and huge exponents never reach OpenSSL: both have been ways to keep a verifier busy.
 * Throws `ca/der-malformed` or `ca/weak-key`.
 */
export function readPublicKey(element: DerElement): PublicKey {
  const spki = new DerCursor(element, "public key");
  const algorithm = new DerCursor(spki.take(tags.sequence, "algorithm"), "key algorithm");
  const name = oidText(algorithm.take(tags.oid, "name"));
  const bits = bitStringBytes(spki.take(tags.bitString, "key"));
  spki.end();
  let type: PublicKeyKind;
  if (name === ecPublicKey) {
    const known = curves[oidText(algorithm.take(tags.oid, "named curve"))];
    if (!known) throw weak("its curve is none of P-256, P-384, P-521");
    if (bits[0] !== 4 || bits.length !== 1 + 2 * known.bytes) throw malformed("point is not uncompressed");
    type = { kind: "ec", curve: known.curve };
  } else if (name === rsaEncryption) {
    algorithm.take(tags.null, "RSA parameters");
    const rsa = new DerCursor(decodeDer(bits), "RSA key");
    const modulus = integerBytes(rsa.take(tags.integer, "modulus"));
    const exponent = smallInteger(rsa.take(tags.integer, "exponent"), "RSA exponent");
    rsa.end();
    if (modulus[0]! >= 0x80) throw malformed("RSA modulus is negative");
    const digits = modulus[0] === 0 ? modulus.subarray(1) : modulus;
    const size = digits.length === 0 ? 0 : digits.length * 8 - (Math.clz32(digits[0]!) - 24);
    if (size < 2048 || size > 8192) throw weak(`RSA with ${size} bits, not 2048 to 8192`);
    if (exponent < 3 || exponent % 2 === 0) throw weak(`RSA with exponent ${exponent}`);
    type = { kind: "rsa", bits: size };
  } else {
    throw weak(`algorithm "${name}" is neither elliptic nor RSA`);
  }
  algorithm.end();
  try {
    const object = createPublicKey(
      type.kind === "rsa"
        ? { key: element.bytes, format: "der", type: "spki" }
        : { key: pointAsJwk(bits, type.curve), format: "jwk" },
    );
    return { spki: element.bytes, bits, type, object };
  } catch (cause) {
    throw new Failure("ca/der-malformed", "malformed DER: no such public key", { cause });
  }
}

/** OpenSSL 3 takes a point in half the time that it takes to decode the DER around it; it checks it just the same. */
function pointAsJwk(point: Buffer, curve: string): JsonWebKey {
  const half = 1 + (point.length - 1) / 2;
  const [x, y] = [point.subarray(1, half), point.subarray(half)];
  return { kty: "EC", crv: curve, x: x.toString("base64url"), y: y.toString("base64url") };
}

/** The public half of a key made here. */
export function publicKeyOf(key: KeyObject): PublicKey {
  const object = key.type === "private" ? createPublicKey(key) : key;
  return readPublicKey(decodeDer(object.export({ format: "der", type: "spki" })));
}

function weak(why: string): Failure {
  return new Failure("ca/weak-key", `key refused: ${why}`, { hint: "use ECDSA P-256, or RSA with 2048 bits or more" });
}

interface SignatureKind {
  readonly key: "ec" | "rsa";
  readonly hash: "sha256" | "sha384" | "sha512";
}

/** What we accept. SHA-1 and MD5 are not here: their collisions can be bought. */
const signatureKinds: Readonly<Record<string, SignatureKind>> = {
  "1.2.840.10045.4.3.2": { key: "ec", hash: "sha256" },
  "1.2.840.10045.4.3.3": { key: "ec", hash: "sha384" },
  "1.2.840.10045.4.3.4": { key: "ec", hash: "sha512" },
  "1.2.840.113549.1.1.11": { key: "rsa", hash: "sha256" },
  "1.2.840.113549.1.1.12": { key: "rsa", hash: "sha384" },
  "1.2.840.113549.1.1.13": { key: "rsa", hash: "sha512" },
};

export interface Signature {
  /** Dotted name of the algorithm. */
  readonly algorithm: string;
  readonly bytes: Buffer;
}

/** Name of an AlgorithmIdentifier for a signature, whose parameters are NULL for RSA and absent for ECDSA. */
export function readSignatureAlgorithm(element: DerElement): string {
  const cursor = new DerCursor(element, "signature algorithm");
  const name = oidText(cursor.take(tags.oid, "name"));
  // Parameters of an algorithm that we know must be the right ones; one that we do not know is refused when it is used.
  const known = signatureKinds[name];
  if (known?.key === "rsa") cursor.take(tags.null, "parameters");
  if (known) cursor.end();
  return name;
}

/** Whether `key` made this signature over `bytes`; an algorithm that we do not accept counts as no. */
export function signatureHolds(options: {
  readonly bytes: Buffer;
  readonly signature: Signature;
  readonly key: PublicKey;
}): boolean {
  const kind = signatureKinds[options.signature.algorithm];
  if (!kind || kind.key !== options.key.type.kind) return false;
  return verifyBytes(kind.hash, options.bytes, options.key.object, options.signature.bytes);
}

/** AlgorithmIdentifier of what `signWith` makes with this key: SHA-256 always. */
export function signatureAlgorithmFor(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === "rsa") return sequence(oid("1.2.840.113549.1.1.11"), encodedNull);
  if (key.asymmetricKeyType === "ec") return sequence(oid("1.2.840.10045.4.3.2"));
  throw weak(`a key of type "${key.asymmetricKeyType}" cannot sign certificates here`);
}

export function signWith(key: KeyObject, bytes: Uint8Array): Buffer {
  return signBytes("sha256", bytes, key);
}
