import { createHash, type X509Certificate } from "node:crypto";
import { parseSpiffeId } from "../../values/index.ts";
import type { DownstreamTls, NameMatcher } from "../config/tls.ts";
import type { PeerCertificate } from "../l4/connection.ts";

/** The names in a certificate, by kind. */
export interface CertificateNames {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ips: readonly string[];
}

/**
 * Reads Node's text form of a subjectAltName. It writes values with special characters as JSON strings, so that a comma
 * or a NUL inside one cannot pass for two names; such a value is kept whole, and matches nothing that is honest.
 */
export function namesOf(text: string | undefined): CertificateNames {
  const names = { uris: [] as string[], dnsNames: [] as string[], ips: [] as string[] };
  if (!text) return names;
  const entry = /(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)/g;
  for (const [, kind, raw] of text.matchAll(entry)) {
    const value = raw!.startsWith('"') ? unquote(raw!) : raw!;
    if (kind === "URI") names.uris.push(value);
    else if (kind === "DNS") names.dnsNames.push(value);
    else if (kind === "IP Address") names.ips.push(value);
  }
  return names;
}

function unquote(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch {
    // Not the form that the runtime writes: keep the quotes, so that it matches no name.
    return text;
  }
}

/** What is told of a verified certificate. Two URI names make no identity: SPIFFE X509-SVID §2 allows exactly one. */
export function peerCertificate(certificate: X509Certificate): PeerCertificate {
  const names = namesOf(certificate.subjectAltName);
  return {
    identity: names.uris.length === 1 ? parseSpiffeId(names.uris[0]!) : undefined,
    uris: names.uris,
    dnsNames: names.dnsNames,
    // Node writes one attribute a line, most significant first; RFC 2253 wants them the other way round.
    subject: (certificate.subject ?? "").split("\n").filter(Boolean).reverse().join(","),
    sha256: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/** Whether one of the certificate's names is one of those asked for. */
export function matchesNames(names: CertificateNames, matchers: readonly NameMatcher[]): boolean {
  return matchers.some((matcher) => candidates(names, matcher).some((name) => matchesName(matcher, name)));
}

function candidates(names: CertificateNames, { type }: NameMatcher): readonly string[] {
  switch (type) {
    case "uri":
      return names.uris;
    case "dns":
      return names.dnsNames;
    case "ip":
      return names.ips;
    case undefined:
      return [...names.uris, ...names.dnsNames, ...names.ips];
  }
}

const regexes = new WeakMap<NameMatcher, RegExp>();

function matchesName(matcher: NameMatcher, name: string): boolean {
  const [text, given] = matcher.ignoreCase ? [matcher.text.toLowerCase(), name.toLowerCase()] : [matcher.text, name];
  switch (matcher.how) {
    case "exact":
      // A wildcard in the certificate covers one label of a DNS name (RFC 6125 §6.4.3).
      return (
        given === text ||
        (matcher.type !== "uri" &&
          given.startsWith("*.") &&
          /^[^.]+\./.test(text) &&
          text.replace(/^[^.]+/, "*") === given)
      );
    case "prefix":
      return given.startsWith(text);
    case "suffix":
      return given.endsWith(text);
    case "contains":
      return given.includes(text);
    case "regex": {
      let regex = regexes.get(matcher);
      if (!regex) {
        regex = new RegExp(`^(?:${matcher.text})$`, matcher.ignoreCase ? "ui" : "u");
        regexes.set(matcher, regex);
      }
      return regex.test(name);
    }
  }
}

/** `uri starting with "spiffe://…/ns/bar/"`: what was asked for, for people. */
export function describeMatchers(matchers: readonly NameMatcher[]): string {
  const words = { exact: "", prefix: "starting with ", suffix: "ending in ", contains: "with ", regex: "like " };
  return matchers.map(({ how, text }) => `${words[how]}"${text}"`).join(" or ");
}

/** Whether a certificate, or its public key, is one of those that are listed. */
export function isPinned(certificate: X509Certificate, pins: NonNullable<DownstreamTls["pins"]>): boolean {
  if (pins.certificates.has(certificate.fingerprint256.replaceAll(":", "").toLowerCase())) return true;
  if (pins.keys.size === 0) return false;
  const key = certificate.publicKey.export({ type: "spki", format: "der" });
  return pins.keys.has(createHash("sha256").update(key).digest("base64"));
}
