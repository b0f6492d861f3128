import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { explain, Failure } from "../base/index.ts";
import { type Certificate, certificatePem, decodeCertificates, isSelfSigned, keyUsageBits } from "./certificate.ts";
import { decodePem } from "./pem.ts";
import { bundleOf, type TrustBundle, verifyChain } from "./trust.ts";

export const cacertsNames = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] as const;
export type CacertsName = (typeof cacertsNames)[number];
/** The four files that a control plane signs with, by name, each a PEM text. */
export type CacertsFiles = Readonly<Record<CacertsName, string>>;

/** The organisation of certificates that a demo makes for itself: known to whoever saw the demo, so good for nothing else. */
export const demoOrganization = "Isthmus Demo";

/** A checked set: what signs, and what those need who are to believe it. */
export class Cacerts {
  readonly certificate: Certificate;
  /** What goes along after a leaf, the signing certificate first. Roots are not in it: who needs them has them. */
  readonly intermediates: readonly Certificate[];
  readonly trust: TrustBundle;
  /** When the first certificate on the way to the root ends, in milliseconds since the epoch. */
  readonly notAfter: number;
  /** Whether a demo made it for itself. */
  readonly demo: boolean;
  readonly #privateKey: KeyObject;

  constructor(parts: {
    readonly certificate: Certificate;
    readonly privateKey: KeyObject;
    readonly path: readonly Certificate[];
    readonly intermediates: readonly Certificate[];
    readonly trust: TrustBundle;
    readonly demo: boolean;
  }) {
    this.certificate = parts.certificate;
    this.intermediates = parts.intermediates;
    this.trust = parts.trust;
    this.notAfter = Math.min(...parts.path.map(({ notAfter }) => notAfter));
    this.demo = parts.demo;
    this.#privateKey = parts.privateKey;
  }

  /** Only for signing. A private field, so that no dump or log line can reach it. */
  get privateKey(): KeyObject {
    return this.#privateKey;
  }

  toJSON(): object {
    return { certificate: this.certificate.title, notAfter: this.notAfter, demo: this.demo, privateKey: "…" };
  }
}

export interface CacertsProblem {
  readonly file: CacertsName;
  /** `ca/cacerts-…` */
  readonly code: string;
  readonly message: string;
}

export interface CacertsRules {
  readonly nowMs: number;
  /** What to do with a set that a demo made for itself. */
  readonly demo: "allowed" | "refused";
}

export type CheckedCacerts =
  | { readonly ok: true; readonly cacerts: Cacerts }
  | { readonly ok: false; readonly problems: readonly CacertsProblem[] };

/** The set that these texts are, or everything that is wrong with them. `undefined` is a file that is not there. */
export function checkCacerts(
  files: Readonly<Record<CacertsName, string | undefined>>,
  rules: CacertsRules,
): CheckedCacerts {
  const problems: CacertsProblem[] = [];
  const wrong = (file: CacertsName, kind: string, message: string) => {
    problems.push({ file, code: `ca/cacerts-${kind}`, message });
  };
  const read = <T>(file: CacertsName, how: (text: string) => T): T | undefined => {
    const text = files[file];
    if (text === undefined) {
      wrong(file, "missing", "is not there");
      return undefined;
    }
    try {
      return how(text);
    } catch (caught) {
      wrong(
        file,
        caught instanceof Failure && caught.code === "ca/weak-key" ? "weak-key" : "malformed",
        explainInner(caught),
      );
      return undefined;
    }
  };

  const own = read("ca-cert.pem", (text) => {
    const all = decodeCertificates(text);
    if (all.length > 1)
      wrong("ca-cert.pem", "malformed", `holds ${all.length} certificates; only the signing one belongs here`);
    return all[0]!;
  });
  const key = read("ca-key.pem", decodePrivateKey);
  const roots = read("root-cert.pem", decodeCertificates) ?? [];
  // An empty chain is what a root that signs by itself needs.
  const chain = read("cert-chain.pem", (text) => (text.trim() === "" ? [] : decodeCertificates(text))) ?? [];

  const dates = (file: CacertsName, certificate: Certificate) => {
    const { title, notBefore, notAfter } = certificate;
    if (rules.nowMs >= notAfter + 1000) wrong(file, "expired", `"${title}" expired at ${iso(notAfter)}`);
    if (rules.nowMs < notBefore)
      wrong(file, "not-yet-valid", `"${title}" is not valid before ${iso(notBefore)}; is this machine's clock right?`);
  };
  const caRights = (file: CacertsName, certificate: Certificate) => {
    const { title, isCa, keyUsage, unknownCritical } = certificate;
    if (!isCa) wrong(file, "not-a-ca", `"${title}" is no CA's certificate (basic constraints)`);
    if (keyUsage && !keyUsage.has(keyUsageBits.certSign))
      wrong(file, "key-usage", `"${title}" may not sign certificates (key usage)`);
    if (unknownCritical.length > 0)
      wrong(file, "critical", `"${title}" has the unknown critical extension "${unknownCritical[0]}"`);
  };

  if (own) {
    dates("ca-cert.pem", own);
    caRights("ca-cert.pem", own);
  }
  if (own && key && !createPublicKey(key).equals(own.publicKey.object))
    wrong("ca-key.pem", "key-mismatch", `is not the key of "${own.title}" in ca-cert.pem`);
  for (const root of roots) {
    caRights("root-cert.pem", root);
    if (!isSelfSigned(root))
      wrong("root-cert.pem", "not-a-root", `"${root.title}" is not signed by itself, so it is no root`);
  }
  // A root that ended is dead weight while another lives, as in a rollover.
  if (roots.length > 0 && roots.every((root) => rules.nowMs >= root.notAfter + 1000 || rules.nowMs < root.notBefore))
    for (const root of roots) dates("root-cert.pem", root);
  for (const link of chain) {
    if (own?.der.equals(link.der) || roots.some((root) => root.der.equals(link.der))) continue;
    dates("cert-chain.pem", link);
    caRights("cert-chain.pem", link);
  }
  const isRoot = own !== undefined && roots.some((root) => root.der.equals(own.der));
  if (own && files["cert-chain.pem"] !== undefined && !isRoot && !chain.some((link) => link.der.equals(own.der)))
    wrong(
      "cert-chain.pem",
      "incomplete",
      `does not hold the signing certificate "${own.title}", so peers could not build a chain`,
    );
  const path =
    own && roots.length > 0 ? verifyChain(own, { intermediates: chain, roots, nowMs: rules.nowMs }) : undefined;
  // What the dates or the rights of a single file explain already is not said again.
  if (path && !path.ok && !problems.some(({ code }) => !code.endsWith("-mismatch") && !code.endsWith("-incomplete")))
    wrong(
      "cert-chain.pem",
      path.reason.includes("CAs below") ? "path-length" : "chain",
      `does not lead from ca-cert.pem to root-cert.pem: ${path.reason}`,
    );
  const demo = [...(own ? [own] : []), ...chain, ...roots].some(({ subjectParts }) =>
    subjectParts.some(({ type, value }) => type === "O" && value === demoOrganization),
  );
  if (demo && rules.demo === "refused")
    wrong("root-cert.pem", "demo", `was made by a demo for itself ("O=${demoOrganization}"); make a root of your own`);

  if (problems.length > 0 || !own || !key || !path?.ok) return { ok: false, problems };
  const intermediates = [own, ...path.path.slice(1)].filter((link) => !roots.some((root) => root.der.equals(link.der)));
  return {
    ok: true,
    cacerts: new Cacerts({
      certificate: own,
      privateKey: key,
      path: path.path,
      intermediates,
      trust: bundleOf(roots),
      demo,
    }),
  };
}

/** PKCS#8, PKCS#1 or SEC1; elliptic or RSA. Parameters of a curve in a block before the key, as openssl writes them, are fine. */
function decodePrivateKey(text: string): KeyObject {
  const keys = decodePem(text).filter(({ label }) => label !== "EC PARAMETERS");
  const [block, ...more] = keys;
  if (!block || more.length > 0 || !/PRIVATE KEY$/.test(block.label))
    throw new Failure("ca/pem-malformed", block ? "holds something else than one private key" : "no private key in it");
  if (block.label.startsWith("ENCRYPTED"))
    throw new Failure("ca/pem-malformed", "is under a passphrase; take it off first (openssl pkey -in … -out …)");
  const type = ({ "PRIVATE KEY": "pkcs8", "RSA PRIVATE KEY": "pkcs1", "EC PRIVATE KEY": "sec1" } as const)[block.label];
  if (!type) throw new Failure("ca/pem-malformed", `a key of the form "${block.label}" is not known`);
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: block.der, format: "der", type });
  } catch {
    // The library's own words could quote the key's bytes, and say less.
    throw new Failure("ca/pem-malformed", `"${block.label}" does not parse`);
  }
  if (key.asymmetricKeyType !== "ec" && key.asymmetricKeyType !== "rsa")
    throw new Failure("ca/weak-key", `key of type "${key.asymmetricKeyType}" where only EC or RSA will do`);
  return key;
}

function explainInner(caught: unknown): string {
  if (caught instanceof Failure) return caught.message;
  return explain(caught);
}

/** All problems as one failure that names each file; its code is the problem's when there is one. */
export function cacertsFailure(dir: string, problems: readonly CacertsProblem[]): Failure {
  const lines = problems.map(({ file, message, code }) => `${join(dir, file)}: ${message} (${code})`);
  const codes = new Set(problems.map(({ code }) => code));
  const code = codes.size === 1 ? [...codes][0]! : "ca/cacerts-invalid";
  return new Failure(code, `CA files cannot be used:\n  ${lines.join("\n  ")}`, {
    hint: "make a set with `isthmus ca root` and `isthmus ca intermediate`",
  });
}

/** Largest file in bytes that may be one of the four. */
const fileLimit = 1024 * 1024;

/** The texts in a folder; a file that is not there is `undefined`. Throws `ca/cacerts-unreadable`. */
export async function readCacertsFiles(dir: string): Promise<Readonly<Record<CacertsName, string | undefined>>> {
  const texts = await Promise.all(
    cacertsNames.map(async (name) => {
      const file = join(dir, name);
      try {
        const bytes = await readFile(file);
        if (bytes.length > fileLimit)
          throw new Failure("ca/cacerts-unreadable", `"${file}" has ${bytes.length} bytes, more than ${fileLimit}`);
        return [name, bytes.toString("utf8")] as const;
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [name, undefined] as const;
        if (cause instanceof Failure) throw cause;
        throw new Failure("ca/cacerts-unreadable", `"${file}" cannot be read: ${explain(cause)}`, { cause });
      }
    }),
  );
  return Object.fromEntries(texts) as Record<CacertsName, string | undefined>;
}

/** The checked set of a folder. Throws `ca/cacerts-…`, naming every file and everything wrong with it. */
export async function loadCacerts(dir: string, rules: CacertsRules): Promise<Cacerts> {
  const checked = checkCacerts(await readCacertsFiles(dir), rules);
  if (!checked.ok) throw cacertsFailure(dir, checked.problems);
  return checked.cacerts;
}

/** The chain that goes along after a leaf, a PEM text each. */
export function chainPems(cacerts: Cacerts): readonly string[] {
  return cacerts.intermediates.map(certificatePem);
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(".000Z", "Z");
}
