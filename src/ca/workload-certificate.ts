import { createPrivateKey, type KeyObject } from "node:crypto";
import { inspect } from "node:util";
import { Failure } from "../base/index.ts";
import { parseSpiffeId, type SpiffeId, spiffeParts } from "../values/index.ts";
import { type Certificate, decodeCertificate, decodeCertificates } from "./certificate.ts";
import { publicKeyOf } from "./keys.ts";
import { decodeTrustBundle, type TrustBundle, verifyPeer } from "./trust.ts";

/** A certificate with its key, as TLS wants them. The key shows itself to who asks for it by name, and to no dump. */
export class WorkloadCertificate {
  /** Leaf first, then the intermediates. */
  readonly certChainPem: string;
  /** Everything that a peer's chain may end in. */
  readonly rootsPem: string;
  readonly identity: SpiffeId;
  /** Hexadecimal, for logs. */
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly #privateKeyPem: string;

  constructor(parts: {
    readonly certChainPem: string;
    readonly privateKeyPem: string;
    readonly rootsPem: string;
    readonly identity: SpiffeId;
    readonly leaf: Certificate;
  }) {
    this.certChainPem = parts.certChainPem;
    this.rootsPem = parts.rootsPem;
    this.identity = parts.identity;
    this.serial = parts.leaf.serial;
    this.notBefore = parts.leaf.notBefore;
    this.notAfter = parts.leaf.notAfter;
    this.#privateKeyPem = parts.privateKeyPem;
  }

  /** PKCS#8. For TLS and SDS only. */
  get privateKeyPem(): string {
    return this.#privateKeyPem;
  }

  toJSON(): object {
    const { identity, serial, notBefore, notAfter } = this;
    return { identity, serial, notBefore: new Date(notBefore), notAfter: new Date(notAfter), privateKeyPem: "…" };
  }

  [inspect.custom](): string {
    return `WorkloadCertificate ${JSON.stringify(this)}`;
  }
}

export type CheckedCertificate =
  | { readonly ok: true; readonly certificate: WorkloadCertificate }
  | { readonly ok: false; readonly reason: string };

/**
 * A certificate, checked before anything is built on it: for this key, for this name, with a chain to the roots that
 * came along. Judged at `nowMs`, or, left out, at its own end: then whether our clock agrees is another question.
 */
export function checkWorkloadCertificate(
  parts: { readonly certChainPem: string; readonly rootsPem: string; readonly privateKey: KeyObject },
  rules: { readonly expected: SpiffeId | undefined; readonly nowMs?: number },
): CheckedCertificate {
  const { expected, nowMs } = rules;
  let leaf: Certificate;
  let shown: readonly Uint8Array[];
  let trust: TrustBundle;
  try {
    trust = decodeTrustBundle(parts.rootsPem);
    const chain = decodeCertificates(parts.certChainPem);
    leaf = decodeCertificate(chain[0]!.der);
    shown = chain.map(({ der }) => der);
  } catch (caught) {
    return refuse(Failure.from(caught).message);
  }
  if (!leaf.publicKey.spki.equals(publicKeyOf(parts.privateKey).spki))
    return refuse("the certificate is for another key");
  const uri = leaf.names.find((name) => name.kind === "uri")?.value ?? "";
  const identity = parseSpiffeId(uri);
  if (!identity) return refuse(`"${uri.slice(0, 256)}" is no workload identity`);
  if (expected !== undefined && identity !== expected) return refuse(`it is for "${identity}", not for "${expected}"`);
  const verdict = verifyPeer(shown, trust, {
    nowMs: nowMs ?? leaf.notAfter,
    role: "client",
    trustDomains: new Set([spiffeParts(identity)!.trustDomain]),
  });
  if (!verdict.ok) return refuse(verdict.reason);
  const privateKeyPem = parts.privateKey.export({ format: "pem", type: "pkcs8" }) as string;
  const { certChainPem, rootsPem } = parts;
  return { ok: true, certificate: new WorkloadCertificate({ certChainPem, privateKeyPem, rootsPem, identity, leaf }) };
}

/** A certificate of an earlier run of the same workload, as it was kept. PEM. */
export interface HeldCertificate {
  readonly certChainPem: string;
  readonly privateKeyPem: string;
  readonly rootsPem: string;
  /** When it came, by this machine's clock: CAs date certificates back, so its own dates do not tell. */
  readonly sinceMs: number;
}

/** A certificate that ends sooner than this, or than a tenth of its life, is not worth beginning with. */
const leastLeftMs = 10_000;

/**
 * A certificate of an earlier run, if it can still be shown: all that a new one must fulfil, valid now and for a while
 * yet, and signed under a root of `trust`, which is what the mesh says of its roots today.
 */
export function readHeldCertificate(
  held: HeldCertificate,
  rules: { readonly expected: SpiffeId | undefined; readonly nowMs: number; readonly trust: TrustBundle },
): CheckedCertificate {
  const { expected, nowMs, trust } = rules;
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(held.privateKeyPem);
  } catch {
    // What the library says of a key is not for messages.
    return refuse("its key does not load");
  }
  const { certChainPem, rootsPem } = held;
  const checked = checkWorkloadCertificate({ certChainPem, rootsPem, privateKey }, { expected, nowMs });
  if (!checked.ok) return checked;
  const leftMs = checked.certificate.notAfter - nowMs;
  if (leftMs < Math.min(leastLeftMs, lifeOf(checked.certificate, held.sinceMs) / 10))
    return refuse(`it ends in ${Math.max(0, Math.round(leftMs / 1000))} s`);
  const shown = decodeCertificates(certChainPem).map(({ der }) => der);
  const today = verifyPeer(shown, trust, { nowMs, role: "client" });
  return today.ok ? checked : refuse(`the mesh's root is another now: ${today.reason}`);
}

/** How long a certificate that came at `sinceMs` has to live from then on; from its own beginning when that cannot be. */
export function lifeOf(certificate: WorkloadCertificate, sinceMs: number): number {
  const { notBefore, notAfter } = certificate;
  return notAfter - (sinceMs >= notBefore && sinceMs < notAfter ? sinceMs : notBefore);
}

function refuse(reason: string): { readonly ok: false; readonly reason: string } {
  return { ok: false, reason };
}
