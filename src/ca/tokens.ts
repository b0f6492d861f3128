import { createPrivateKey, createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import {
  createLocalJWKSet,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
  SignJWT,
} from "jose";
import { type Clock, explain, Failure, within } from "../base/index.ts";

/** For whom a join token is meant: this CA. A token for another service opens nothing here. */
export const tokenAudience = "istio-ca";

/** Who a token speaks for. */
export type TokenVerdict =
  | { readonly ok: true; readonly namespace: string; readonly serviceAccount: string }
  | { readonly ok: false; readonly reason: string };

/** Checks bearer tokens: by a set of public keys here; Kubernetes' TokenReview is another way to be one. */
export interface TokenVerifier {
  /** A wrong token is a verdict; throws a `Failure` when it could not be checked at all. */
  verify(token: string): Promise<TokenVerdict>;
}

/** A key that signs join tokens, and the public half for who checks them. */
export interface TokenKey {
  readonly privateKey: KeyObject;
  readonly kid: string;
}

/** Largest token in characters; Kubernetes' own take one or two thousand. */
export const tokenLimit = 16 * 1024;
const skewSeconds = 30;
/** Only signatures by a key pair. Without this list a token could choose "none", or be signed with the public key as HMAC secret. */
const algorithms = ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256"];
/** DNS-1123, as Kubernetes names namespaces and service accounts (a subdomain for the latter). */
export const subjectForm =
  /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)$/;

export function makeTokenKey(kid: string): TokenKey {
  return { privateKey: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey, kid };
}

/** A key from its PEM. Throws `ca/token-keys`. */
export function decodeTokenKey(pem: string, kid: string): TokenKey {
  try {
    return { privateKey: createPrivateKey(pem), kid };
  } catch {
    throw new Failure("ca/token-keys", "the key for join tokens is no private key in PEM");
  }
}

/** The public half as a key set (RFC 7517), for a verifier's file. */
export function jwksOf(keys: readonly TokenKey[]): string {
  const jwks = keys.map(({ privateKey, kid }) => ({
    ...createPublicKey(privateKey).export({ format: "jwk" }),
    kid,
    alg: "ES256",
    use: "sig",
  }));
  return `${JSON.stringify({ keys: jwks }, null, 2)}\n`;
}

/** A join token (JWT, RFC 7519) for one service account. */
export function mintToken(
  key: TokenKey,
  claims: {
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly ttlMs: number;
    readonly nowMs: number;
    readonly audience?: string;
    readonly issuer?: string;
  },
): Promise<string> {
  const nowSeconds = Math.floor(claims.nowMs / 1000);
  return new SignJWT({})
    .setProtectedHeader({ alg: "ES256", kid: key.kid, typ: "JWT" })
    .setSubject(`system:serviceaccount:${claims.namespace}:${claims.serviceAccount}`)
    .setAudience(claims.audience ?? tokenAudience)
    .setIssuer(claims.issuer ?? "isthmus")
    .setIssuedAt(nowSeconds)
    .setExpirationTime(nowSeconds + Math.ceil(claims.ttlMs / 1000))
    .sign(key.privateKey);
}

/** A key set from its text: JWKS (RFC 7517) or PEM public keys. Throws `ca/token-keys`. */
export function decodeTokenKeys(text: string): JSONWebKeySet {
  const refuse = (why: string, cause?: unknown) =>
    new Failure("ca/token-keys", `keys for join tokens: ${why}`, cause === undefined ? {} : { cause });
  if (text.length > 1024 * 1024) throw refuse(`${text.length} characters, more than ${1024 * 1024}`);
  let keys: JsonWebKey[];
  try {
    if (text.trimStart().startsWith("{")) {
      const set = JSON.parse(text) as { keys?: unknown };
      if (!Array.isArray(set.keys)) throw refuse('no "keys" in it');
      // Through node:crypto, which keeps the public members of a public key only. Of what it does not know, the kind decides.
      keys = set.keys.map((jwk: JsonWebKey & { kid?: string }) => {
        const object = createPublicKey({ key: jwk, format: "jwk" });
        return { ...object.export({ format: "jwk" }), ...(typeof jwk.kid === "string" ? { kid: jwk.kid } : {}) };
      });
    } else {
      const blocks = text.match(/-----BEGIN ([A-Z ]+)-----[\s\S]*?-----END \1-----/g) ?? [];
      keys = blocks.map((pem) => createPublicKey(pem).export({ format: "jwk" }));
    }
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw refuse(`not a key set (${explain(cause)})`, cause);
  }
  if (keys.length === 0) throw refuse("there is none");
  if (keys.length > 64) throw refuse(`${keys.length} keys, more than 64`);
  return { keys } as JSONWebKeySet;
}

/** Checks tokens against a set of keys that does not change. */
export function createTokenVerifier(options: {
  readonly keys: JSONWebKeySet;
  readonly clock: Clock;
  readonly audience?: string;
  /** Who must have made the token; anyone who holds the key when left out. */
  readonly issuer?: string;
}): TokenVerifier {
  // A key without a name, as PEM has none, stands for any name; a name that a key has means that key and no other.
  const names = new Set(options.keys.keys.map(({ kid }) => kid).filter((kid) => kid !== undefined));
  const named = createLocalJWKSet(options.keys);
  const unnamed = createLocalJWKSet({ keys: options.keys.keys.filter(({ kid }) => kid === undefined) });
  const findKey: typeof named = async (header, token) => {
    if (header?.kid === undefined || names.has(header.kid)) return named(header, token);
    const { kid: _unknown, ...rest } = header;
    return unnamed(rest, token);
  };
  return {
    async verify(token) {
      if (token.length > tokenLimit)
        return { ok: false, reason: `token of ${token.length} characters, more than ${tokenLimit}` };
      const rules: JWTVerifyOptions = {
        algorithms,
        audience: options.audience ?? tokenAudience,
        ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
        requiredClaims: ["exp", "sub", "aud"],
        clockTolerance: skewSeconds,
        currentDate: new Date(options.clock.now()),
      };
      try {
        const payload = await verifyWithAny({ token, findKey, rules });
        const [, namespace, serviceAccount] = subjectForm.exec(payload.sub ?? "") ?? [];
        if (namespace === undefined || serviceAccount === undefined)
          return {
            ok: false,
            reason: "token's subject is no service account (system:serviceaccount:<namespace>:<name>)",
          };
        return { ok: true, namespace, serviceAccount };
      } catch (caught) {
        if (caught instanceof errors.JOSEError) return { ok: false, reason: `token refused: ${tokenProblem(caught)}` };
        // What the runtime throws over a token's odd bytes is the token's fault as well.
        return { ok: false, reason: "token refused: it is malformed" };
      }
    },
  };
}

/** The claims, by whichever fitting key made the signature. */
async function verifyWithAny(options: {
  readonly token: string;
  readonly findKey: JWTVerifyGetKey;
  readonly rules: JWTVerifyOptions;
}): Promise<JWTPayload> {
  const { token, findKey, rules } = options;
  try {
    return (await jwtVerify(token, findKey, rules)).payload;
  } catch (caught) {
    if (!(caught instanceof errors.JWKSMultipleMatchingKeys)) throw caught;
    for await (const key of caught) {
      try {
        return (await jwtVerify(token, key, rules)).payload;
      } catch (failed) {
        if (!(failed instanceof errors.JWSSignatureVerificationFailed)) throw failed;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** The library's reasons in our words: none of them repeats what the token holds. */
function tokenProblem(error: errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return "it has expired";
  if (error instanceof errors.JWTClaimValidationFailed)
    return error.reason === "missing"
      ? `it has no "${error.claim}"`
      : `its "${error.claim}" is not the one that is needed`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature does not hold";
  if (error instanceof errors.JOSEAlgNotAllowed) return "its algorithm is not allowed";
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return "no known key fits it";
  return "it is malformed";
}

/** A file is read again when its time has changed, and that is looked at this often at most. */
const rereadMs = 1000;

/**
 * The same, with the keys from a file (JWKS or PEM) that may change. Throws `ca/token-keys` when the first reading fails;
 * later the last good keys stay, until a change can be read.
 */
export async function startTokenVerifier(deps: {
  readonly keysFile: string;
  readonly clock: Clock;
  readonly onProblem?: (failure: Failure) => void;
  readonly audience?: string;
  readonly issuer?: string;
}): Promise<TokenVerifier> {
  const { keysFile, clock } = deps;
  const read = async () => {
    const text = await readFile(keysFile, "utf8").catch((cause: unknown) => {
      throw new Failure("ca/token-keys", `"${keysFile}" cannot be read: ${explain(cause)}`, { cause });
    });
    try {
      return { text, verifier: createTokenVerifier({ ...deps, keys: decodeTokenKeys(text) }) };
    } catch (caught) {
      throw within(`"${keysFile}"`, caught);
    }
  };
  let known = await read();
  let readAt = clock.monotonic();
  let problem = "";
  return {
    async verify(token) {
      if (clock.monotonic() - readAt >= rereadMs) {
        readAt = clock.monotonic();
        try {
          const next = await read();
          if (next.text !== known.text) known = next;
          problem = "";
        } catch (caught) {
          const failure = Failure.from(caught);
          if (failure.message !== problem) deps.onProblem?.(failure);
          problem = failure.message;
        }
      }
      return known.verifier.verify(token);
    },
  };
}
