import { Failure } from "../base/index.ts";
import { parseSpiffeId, type SpiffeId, spiffeParts } from "../values/index.ts";
import {
  type Certificate,
  type ConstrainedName,
  certificatePem,
  decodeCertificate,
  decodeCertificates,
  extendedKeyUsages,
  keyUsageBits,
  namesIssuer,
  signatureFits,
} from "./certificate.ts";
import type { GeneralName } from "./names.ts";

/** The roots that a peer's chain may end in. */
export interface TrustBundle {
  readonly roots: readonly Certificate[];
  readonly pem: string;
}

/** A PEM text of one or more roots. Throws when it holds none, or anything else. */
export function decodeTrustBundle(pem: string): TrustBundle {
  return bundleOf(decodeCertificates(pem));
}

/** The same root twice counts once. */
export function bundleOf(certificates: readonly Certificate[]): TrustBundle {
  const byDer = new Map(certificates.map((certificate) => [certificate.der.toString("base64"), certificate]));
  const roots = [...byDer.values()];
  return { roots, pem: roots.map(certificatePem).join("") };
}

/** Why a peer is not who it would have to be. For metrics' labels; `reason` is for people. */
export type PeerProblem =
  | "malformed"
  | "expired"
  | "not-yet-valid"
  | "untrusted"
  | "chain"
  | "purpose"
  | "no-identity"
  | "several-identities"
  | "foreign-trust-domain";

export type PeerVerdict =
  | { readonly ok: true; readonly identity: SpiffeId }
  | { readonly ok: false; readonly problem: PeerProblem; readonly reason: string };

export interface LeafRules {
  readonly nowMs: number;
  /** What the peer is to us in this connection. */
  readonly role: "server" | "client";
  /** Trust domains whose identities count; any when left out. */
  readonly trustDomains?: ReadonlySet<string>;
}

/** Certificates that a peer may show, the leaf included. */
const chainLimit = 10;
/** CAs between leaf and root, the root included. */
const depthLimit = 8;
/** Signatures that one peer can make us check: a chain of cross-signed CAs would otherwise be a maze. */
const checkLimit = 32;

/**
 * The identity of a leaf whose chain has been verified elsewhere: Node's `tls`, given `ca`, checks signatures, dates, CA
 * flags and path lengths. The rules of SPIFFE are checked here and nowhere else: exactly one URI, of the right form, in
 * the right trust domain; a leaf that can sign nothing; the purpose; the dates again, because a connection lives on.
 */
export function leafIdentity(leaf: Certificate, rules: LeafRules): PeerVerdict {
  const { notBefore, notAfter, title, keyUsage, extendedKeyUsage } = leaf;
  if (rules.nowMs < notBefore)
    return refuse("not-yet-valid", `certificate of "${title}" is not valid before ${iso(notBefore)}`);
  // The last second is still valid, all of it.
  if (rules.nowMs >= notAfter + 1000) return refuse("expired", `certificate of "${title}" expired at ${iso(notAfter)}`);
  if (leaf.unknownCritical.length > 0)
    return refuse(
      "purpose",
      `certificate of "${title}" has the unknown critical extension "${leaf.unknownCritical[0]}"`,
    );
  if (leaf.isCa || keyUsage?.has(keyUsageBits.certSign) || keyUsage?.has(keyUsageBits.crlSign))
    return refuse("purpose", `certificate of "${title}" is a CA's, not a workload's`);
  if (keyUsage && !keyUsage.has(keyUsageBits.digitalSignature))
    return refuse("purpose", `certificate of "${title}" is not for signing a handshake`);
  if (
    extendedKeyUsage &&
    !extendedKeyUsage.includes(extendedKeyUsages[rules.role]) &&
    !extendedKeyUsage.includes(extendedKeyUsages.any)
  )
    return refuse("purpose", `certificate of "${title}" is not for a TLS ${rules.role}`);
  return identityAmong(leaf.names, rules.trustDomains);
}

function identityAmong(names: readonly GeneralName[], trustDomains: ReadonlySet<string> | undefined): PeerVerdict {
  const uris: string[] = [];
  for (const name of names) {
    if (name.kind === "other" || name.kind === "email")
      return refuse("no-identity", `certificate has a name of a kind that no workload has (${name.kind})`);
    if (hasControl(name.value))
      return refuse("no-identity", `certificate has a control character in ${show(name.value)}`);
    if (name.kind === "uri") uris.push(name.value);
  }
  const [uri, ...more] = uris;
  if (uri === undefined) return refuse("no-identity", "certificate names no identity: it has no URI");
  if (more.length > 0)
    return refuse(
      "several-identities",
      `certificate names ${uris.length} URIs, where exactly one may stand: ${uris.map(show).join(", ").slice(0, 512)}`,
    );
  const identity = parseSpiffeId(uri);
  if (!identity)
    return refuse(
      "no-identity",
      `certificate names ${show(uri)}, which is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>`,
    );
  const { trustDomain } = spiffeParts(identity)!;
  if (trustDomains && !trustDomains.has(trustDomain))
    return refuse(
      "foreign-trust-domain",
      `"${identity}" is of the foreign trust domain "${trustDomain}", not of "${[...trustDomains].join('", "')}"`,
    );
  return { ok: true, identity };
}

/**
 * Everything about a peer from what it showed (DER, leaf first, order of the rest does not matter): a chain to one of our
 * roots, and the rules of `leafIdentity`. Never throws.
 */
export function verifyPeer(shown: readonly Uint8Array[], bundle: TrustBundle, rules: LeafRules): PeerVerdict {
  if (shown.length === 0) return refuse("no-identity", "no certificate was shown");
  if (shown.length > chainLimit)
    return refuse("chain", `${shown.length} certificates were shown, more than ${chainLimit}`);
  let certificates: readonly Certificate[];
  try {
    certificates = shown.map(decodeCertificate);
  } catch (caught) {
    return refuse("malformed", Failure.from(caught).message);
  }
  const [leaf, ...intermediates] = certificates as [Certificate, ...Certificate[]];
  const verdict = leafIdentity(leaf, rules);
  if (!verdict.ok) return verdict;
  const chain = verifyChain(leaf, { intermediates, roots: bundle.roots, nowMs: rules.nowMs });
  return chain.ok ? verdict : refuse(chain.problem, chain.reason);
}

export type ChainVerdict =
  | { readonly ok: true /** From the certificate itself to the root. */; readonly path: readonly Certificate[] }
  | { readonly ok: false; readonly problem: PeerProblem; readonly reason: string };

/** A path from `certificate` to one of `roots`, in which every CA was allowed to sign what it signed (RFC 5280 §6). */
export function verifyChain(
  certificate: Certificate,
  options: {
    readonly intermediates: readonly Certificate[];
    readonly roots: readonly Certificate[];
    readonly nowMs: number;
  },
): ChainVerdict {
  const roots = new Set(options.roots);
  // Roots first: the shortest path is tried first, and what a peer sends cannot stand before what we hold.
  const candidates = [...options.roots, ...options.intermediates];
  let checks = 0;
  // The most telling reason: the one found furthest along a path.
  let best: { readonly depth: number; readonly problem: PeerProblem; readonly reason: string } | undefined;
  const note = (depth: number, problem: PeerProblem, reason: string): undefined => {
    if (!best || depth > best.depth) best = { depth, problem, reason };
    return undefined;
  };

  const extend = (path: readonly Certificate[]): readonly Certificate[] | undefined => {
    const last = path[path.length - 1]!;
    if (path.length > depthLimit) return note(path.length, "chain", `chain is longer than ${depthLimit} certificates`);
    let named = false;
    for (const issuer of candidates) {
      if (path.includes(issuer) || !namesIssuer(last, issuer)) continue;
      if (checks++ >= checkLimit)
        return note(Number.POSITIVE_INFINITY, "chain", `more than ${checkLimit} signatures to check`);
      named = true;
      if (!signatureFits(last, issuer)) {
        note(
          path.length,
          "untrusted",
          `"${last.title}" names "${issuer.title}" as its issuer, but was not signed by that one's key`,
        );
        continue;
      }
      const wrong = caProblem(issuer, { path, nowMs: options.nowMs });
      if (wrong) {
        note(path.length + 1, wrong.problem, wrong.reason);
        continue;
      }
      const longer = [...path, issuer];
      const whole = roots.has(issuer) ? longer : extend(longer);
      if (whole) return whole;
    }
    if (!named)
      note(
        path.length,
        "untrusted",
        `no issuer of "${last.title}" among our roots or the certificates shown (another root, or a missing intermediate)`,
      );
    return undefined;
  };

  // A root vouches for itself by being held.
  const own = options.roots.find((root) => root.der.equals(certificate.der));
  if (own) {
    const wrong = dateProblem(own, options.nowMs);
    return wrong ? { ok: false, ...wrong } : { ok: true, path: [own] };
  }
  const path = extend([certificate]);
  if (path) return { ok: true, path };
  return { ok: false, problem: best?.problem ?? "untrusted", reason: best?.reason ?? "no chain to a root" };
}

interface Refusal {
  readonly problem: PeerProblem;
  readonly reason: string;
}

function dateProblem({ title, notBefore, notAfter }: Certificate, nowMs: number): Refusal | undefined {
  if (nowMs < notBefore)
    return { problem: "not-yet-valid", reason: `"${title}" is not valid before ${iso(notBefore)}` };
  if (nowMs >= notAfter + 1000) return { problem: "expired", reason: `"${title}" expired at ${iso(notAfter)}` };
  return undefined;
}

/** Why `issuer` must not have signed the end of `path`; undefined when it may have. */
function caProblem(
  issuer: Certificate,
  { path, nowMs }: { readonly path: readonly Certificate[]; readonly nowMs: number },
): Refusal | undefined {
  const { title, keyUsage, pathLength } = issuer;
  const dates = dateProblem(issuer, nowMs);
  if (dates) return dates;
  if (!issuer.isCa) return { problem: "chain", reason: `"${title}" signed a certificate but is no CA` };
  if (keyUsage && !keyUsage.has(keyUsageBits.certSign))
    return { problem: "chain", reason: `"${title}" may not sign certificates (its key usage does not say so)` };
  // Self-issued CAs, as in a rollover, do not count (RFC 5280 §4.2.1.9). Nor does the leaf.
  const between = path.slice(1).filter((one) => !one.issuer.equals(one.subject)).length + (path[0]!.isCa ? 1 : 0);
  if (pathLength !== undefined && between > pathLength)
    return { problem: "chain", reason: `"${title}" allows ${pathLength} CAs below it, and there are ${between}` };
  if (issuer.unknownCritical.length > 0)
    return { problem: "chain", reason: `"${title}" has the unknown critical extension "${issuer.unknownCritical[0]}"` };
  const name = issuer.nameConstraints && path.flatMap((one) => one.names).find((one) => !mayCertify(issuer, one));
  if (name)
    return {
      problem: "chain",
      reason: `"${title}" may not certify ${"value" in name ? show(name.value) : `a name of kind ${name.tag}`}`,
    };
  return undefined;
}

/** Name constraints (RFC 5280 §4.2.1.10). Where we cannot compare, the answer is no. */
function mayCertify({ nameConstraints }: Certificate, name: GeneralName): boolean {
  if (!nameConstraints) return true;
  const sameKind = (constraint: ConstrainedName) => constraint.kind === name.kind;
  const permitted = nameConstraints.permitted.filter(sameKind);
  const excluded = nameConstraints.excluded.filter(sameKind);
  if (excluded.some((constraint) => within(constraint, name) !== false)) return false;
  return permitted.length === 0 || permitted.some((constraint) => within(constraint, name) === true);
}

/** Whether the name lies in the constraint; undefined when we do not know. */
function within(constraint: ConstrainedName, name: GeneralName): boolean | undefined {
  if (constraint.kind === "dns" && name.kind === "dns") {
    const [suffix, host] = [constraint.value.toLowerCase().replace(/^\./, ""), name.value.toLowerCase()];
    return suffix === "" || host === suffix || host.endsWith(`.${suffix}`);
  }
  if (constraint.kind === "uri" && name.kind === "uri") {
    const host = /^[a-z][a-z0-9+.-]*:\/\/([^/?#:@]+)(?=[/?#:]|$)/i.exec(name.value)?.[1]?.toLowerCase();
    if (host === undefined) return undefined;
    const wanted = constraint.value.toLowerCase();
    return wanted.startsWith(".") ? host.endsWith(wanted) : host === wanted;
  }
  if (constraint.kind === "ip" && name.kind === "ip" && !name.value.includes(":") && constraint.bytes.length === 8) {
    const bytes = name.value.split(".").map(Number);
    return bytes.every(
      (byte, i) => (byte & constraint.bytes[4 + i]!) === (constraint.bytes[i]! & constraint.bytes[4 + i]!),
    );
  }
  if (constraint.kind === "ip" && name.kind === "ip")
    return name.value.includes(":") === (constraint.bytes.length === 32) ? undefined : false;
  return undefined;
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

function refuse(
  problem: PeerProblem,
  reason: string,
): { readonly ok: false; readonly problem: PeerProblem; readonly reason: string } {
  return { ok: false, problem, reason };
}

function show(text: string): string {
  return JSON.stringify(text.length > 256 ? `${text.slice(0, 256)}…` : text);
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(".000Z", "Z");
}
