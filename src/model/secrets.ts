import { createPrivateKey, X509Certificate } from "node:crypto";
import type { Sealed, Secret } from "../resources/index.ts";
import type { Change, Origin, SortedMap } from "../values/index.ts";

/** What a proxy shows: its certificate with those above it, and the key. PEM. */
export interface KeyPair {
  readonly chain: string;
  readonly key: Sealed;
}

/** Whom a proxy believes, PEM, and the lists of those whom it believes no more. */
export interface Trust {
  readonly roots: string;
  readonly crl: string | undefined;
}

/** One Secret with something for TLS in it. Where what it says now cannot be used, the last that could be stays. */
export interface TlsSecret {
  readonly name: string;
  readonly namespace: string;
  readonly keyPair: KeyPair | undefined;
  readonly trust: Trust | undefined;
  /** What is wrong with what it says now; nothing of it is ever in the words. */
  readonly problems: readonly string[];
  readonly origin: Origin;
}

interface Read<T> {
  readonly value?: T;
  readonly problem?: string;
}

type Entry = keyof Secret["data"];

/** Secrets by `namespace/name` after some changed. */
export function nextSecrets(
  before: SortedMap<string, TlsSecret>,
  changes: ReadonlyArray<Change<string, Secret>>,
): SortedMap<string, TlsSecret> {
  const wanted = new Map<string, TlsSecret | undefined>();
  for (const { before: old } of changes) if (old) wanted.set(keyOf(old), undefined);
  for (const { after } of changes) if (after) wanted.set(keyOf(after), readTlsSecret(after, before.get(keyOf(after))));
  return before.with(wanted);
}

const keyOf = ({ metadata }: Secret) => `${metadata.namespace}/${metadata.name}`;

/** Undefined for a Secret that has nothing to do with TLS. */
function readTlsSecret(secret: Secret, last: TlsSecret | undefined): TlsSecret | undefined {
  const entry = (...names: readonly Entry[]) => {
    for (const name of names) {
      const value = secret.stringData[name] ?? secret.data[name];
      if (value) return { name, value };
    }
    return undefined;
  };
  const [chain, key] = [entry("tls.crt", "cert"), entry("tls.key", "key")];
  const [roots, crl] = [entry("ca.crt", "cacert"), entry("ca.crl", "crl")];
  if (!chain && !key && !roots) return undefined;
  const pair = chain || key ? readKeyPair(chain, key) : {};
  const trust = roots ? readTrust(roots, crl) : {};
  const keyPair = pair.problem === undefined ? pair.value : last?.keyPair;
  const believed = trust.problem === undefined ? trust.value : last?.trust;
  return Object.freeze({
    name: secret.metadata.name,
    namespace: secret.metadata.namespace,
    keyPair: keyPair && last?.keyPair && samePair(keyPair, last.keyPair) ? last.keyPair : keyPair,
    trust: believed && last?.trust && sameTrust(believed, last.trust) ? last.trust : believed,
    problems: Object.freeze([pair.problem, trust.problem].filter((one) => one !== undefined)),
    origin: secret.origin,
  });
}

const samePair = (a: KeyPair, b: KeyPair) => a.chain === b.chain && a.key.digest === b.key.digest;
const sameTrust = (a: Trust, b: Trust) => a.roots === b.roots && a.crl === b.crl;

interface Named {
  readonly name: Entry;
  readonly value: Sealed;
}

function readKeyPair(chain: Named | undefined, key: Named | undefined): Read<KeyPair> {
  if (!chain) return { problem: `has "${key!.name}" and no certificate; write it as tls.crt or cert` };
  if (!key) return { problem: `has "${chain.name}" and no key; write it as tls.key or key` };
  const pem = chain.value.reveal();
  const certificates = readCertificates(pem);
  if (!certificates) return { problem: `"${chain.name}" is no PEM certificate, or one of several is not` };
  try {
    const read = createPrivateKey(key.value.reveal());
    if (!certificates[0]!.checkPrivateKey(read))
      return { problem: `"${key.name}" is not the key of the first certificate in "${chain.name}"` };
  } catch {
    // What OpenSSL says of a key may quote it.
    return { problem: `"${key.name}" is no private key in PEM; one with a passphrase cannot be read` };
  }
  return { value: Object.freeze({ chain: pem, key: key.value }) };
}

function readTrust(roots: Named, crl: Named | undefined): Read<Trust> {
  const pem = roots.value.reveal();
  if (!readCertificates(pem)) return { problem: `"${roots.name}" is no PEM certificate, or one of several is not` };
  const lists = crl?.value.reveal();
  if (lists !== undefined && !/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/.test(lists))
    return { problem: `"${crl!.name}" is no revocation list in PEM` };
  return { value: Object.freeze({ roots: pem, crl: lists }) };
}

const block = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
/** A chain is a few certificates and a bundle of roots some hundred; an API server keeps no Secret above a mebibyte. */
const longest = 1_048_576;

function readCertificates(pem: string): readonly X509Certificate[] | undefined {
  const blocks = pem.length <= longest ? pem.match(block) : null;
  if (!blocks || pem.split("-----BEGIN ").length - 1 !== blocks.length) return undefined;
  try {
    return blocks.map((one) => new X509Certificate(one));
  } catch {
    return undefined;
  }
}
