import type { KeyObject } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { explain, Failure } from "../base/index.ts";
import type { Certificate } from "./certificate.ts";
import { issueCertificate, keyIdOf } from "./issue.ts";
import { type KeyType, makeKeyPair, publicKeyOf } from "./keys.ts";
import { encodeSubject, type Subject } from "./names.ts";
import { encodePem } from "./pem.ts";
import { type CacertsFiles, type CacertsName, cacertsFailure, cacertsNames, chainPems, checkCacerts } from "./roots.ts";

const dayMs = 86_400_000;
const yearMs = 365 * dayMs;
/** How far a new CA's certificate reaches back, for machines whose clocks are behind. */
const backdateMs = dayMs;

interface MakeOptions {
  readonly keyType?: KeyType;
  readonly validForMs?: number;
  readonly organization?: string;
  readonly commonName?: string;
  readonly nowMs: number;
}

/** A root of trust that signs itself: 10 years, and one CA below it may have one more, unless told otherwise. */
export function createRoot(options: MakeOptions & { readonly pathLength?: number }): CacertsFiles {
  const {
    nowMs,
    keyType = "ec-p256",
    validForMs = 10 * yearMs,
    organization = "Isthmus",
    commonName = "Root CA",
  } = options;
  const subject: Subject = { organization, commonName };
  const { privateKey } = makeKeyPair(keyType);
  const publicKey = publicKeyOf(privateKey);
  const der = issueCertificate(
    {
      subject,
      publicKey,
      names: [],
      notBefore: nowMs - backdateMs,
      notAfter: nowMs + checkLifetime(validForMs),
      use: { kind: "ca", pathLength: options.pathLength ?? 1 },
    },
    { subject: encodeSubject(subject), keyId: keyIdOf(publicKey), privateKey },
  );
  const pem = encodePem("CERTIFICATE", der);
  return { "ca-cert.pem": pem, "ca-key.pem": keyPem(privateKey), "root-cert.pem": pem, "cert-chain.pem": pem };
}

/**
 * One cluster's CA below `issuer` (the files of a root, or of a CA that may have another below it): 5 years and no CA
 * below it, unless told otherwise, and never beyond the issuer's own end. Throws `ca/cacerts-…` when the issuer is unfit.
 */
export function createIntermediate(
  options: MakeOptions & {
    /** As `readCacertsFiles` gives them; a file that is missing is one of the things that can be wrong. */
    readonly issuer: Readonly<Record<CacertsName, string | undefined>>;
    readonly cluster: string;
    readonly pathLength?: number;
    /** What to call the issuer in messages: its folder. */
    readonly issuerName?: string;
  },
): CacertsFiles {
  const { nowMs, issuer, cluster, keyType = "ec-p256", validForMs = 5 * yearMs, pathLength = 0 } = options;
  const checked = checkCacerts(issuer, { nowMs, demo: "allowed" });
  if (!checked.ok) throw cacertsFailure(options.issuerName ?? "issuer", checked.problems);
  const parent = checked.cacerts.certificate;
  if (parent.pathLength !== undefined && parent.pathLength <= pathLength)
    throw new Failure(
      "ca/cacerts-path-length",
      `"${parent.title}" allows ${parent.pathLength} CAs below it, so it cannot have one with path length ${pathLength}`,
      { hint: "sign with the root, or make a root with a greater path length" },
    );
  const subject: Subject = {
    organization: options.organization ?? organizationOf(parent) ?? "Isthmus",
    commonName: options.commonName ?? `CA of ${checkCluster(cluster)}`,
  };
  const { privateKey } = makeKeyPair(keyType);
  const publicKey = publicKeyOf(privateKey);
  const der = issueCertificate(
    {
      subject,
      publicKey,
      names: [],
      notBefore: Math.max(nowMs - backdateMs, parent.notBefore),
      notAfter: Math.min(nowMs + checkLifetime(validForMs), parent.notAfter),
      use: { kind: "ca", pathLength },
    },
    {
      subject: parent.subject,
      keyId: parent.subjectKeyId,
      privateKey: checked.cacerts.privateKey,
    },
  );
  const pem = encodePem("CERTIFICATE", der);
  return {
    "ca-cert.pem": pem,
    "ca-key.pem": keyPem(privateKey),
    "root-cert.pem": checked.cacerts.trust.pem,
    "cert-chain.pem": pem + chainPems(checked.cacerts).join(""),
  };
}

function organizationOf(certificate: Certificate): string | undefined {
  return certificate.subjectParts.find(({ type }) => type === "O")?.value;
}

function checkCluster(name: string): string {
  // A common name holds 64 characters (RFC 5280 appendix A.1); "CA of " takes six.
  if (/^[A-Za-z0-9]([-A-Za-z0-9._]{0,56}[A-Za-z0-9])?$/.test(name)) return name;
  throw new Failure("ca/bad-name", `"${name}" cannot be a cluster's name: letters, digits, dash, dot, at most 58`);
}

function checkLifetime(ms: number): number {
  if (Number.isFinite(ms) && ms >= 1000) return ms;
  throw new Failure("ca/bad-lifetime", `a CA cannot be valid for ${ms} ms`);
}

function keyPem(key: KeyObject): string {
  return key.export({ format: "pem", type: "pkcs8" }) as string;
}

/**
 * Writes the four files into `dir`, the key readable by its owner alone. A key that is there already is never written
 * over, unless `replace` says so. Each file appears whole; throws `ca/cacerts-exists` or `ca/cacerts-write`.
 */
export function writeCacerts(dir: string, files: CacertsFiles, options: { readonly replace?: boolean } = {}): void {
  const there = cacertsNames.filter((name) => existsSync(join(dir, name)));
  if (there.length > 0 && !options.replace)
    throw new Failure("ca/cacerts-exists", `"${join(dir, there[0]!)}" is there already, and stays as it is`, {
      hint: "choose another folder; --replace writes over it, and the old key is gone then",
    });
  const parts: Array<readonly [string, string]> = [];
  try {
    makeFolder(resolve(dir));
    for (const name of cacertsNames) {
      const part = join(dir, `.${name}.part`);
      rmSync(part, { force: true });
      // "wx" neither follows a link nor takes over somebody's file, so the mode holds from the first byte.
      writeFileSync(part, files[name], { mode: name === "ca-key.pem" ? 0o600 : 0o644, flag: "wx" });
      parts.push([part, join(dir, name)]);
    }
    for (const [part, whole] of parts) renameSync(part, whole);
  } catch (cause) {
    for (const [part] of parts) rmSync(part, { force: true });
    throw new Failure("ca/cacerts-write", `cannot write CA files into "${dir}": ${explain(cause)}`, { cause });
  }
}

/**
 * The folder with those above it. Not the runtime's own recursive form: where a file system says that a folder is not
 * there and may not be made (`/proc`), that one tries for ever.
 */
function makeFolder(dir: string): void {
  if (existsSync(dir)) return;
  makeFolder(dirname(dir));
  mkdirSync(dir, { mode: 0o700 });
}
