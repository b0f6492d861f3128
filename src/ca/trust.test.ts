import { describe, expect, test } from "vitest";
import { type Certificate, decodeCertificate } from "./certificate.ts";
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
import { type KeyPair, makeKeyPair, publicKeyOf, signatureAlgorithmFor, signWith } from "./keys.ts";
import { encodeSubject } from "./names.ts";
import { bundleOf, type PeerProblem, verifyPeer } from "./trust.ts";

const nowMs = Date.UTC(2030, 0, 1);
const dayMs = 86_400_000;
const key = makeKeyPair("ec-p256");
const uri = (text: string) => encode(contextTag(6, "primitive"), Buffer.from(text, "latin1"));
const dns = (text: string) => encode(contextTag(2, "primitive"), Buffer.from(text, "latin1"));
const sleep = "spiffe://cluster.local/ns/foo/sa/sleep";

interface Made {
  readonly certificate: Certificate;
  readonly name: string;
  readonly key: KeyPair;
}

interface Extras {
  readonly issuer?: Made;
  readonly signedBy?: KeyPair;
  readonly name?: string;
  readonly key?: KeyPair;
  readonly ca?: boolean;
  readonly pathLength?: number;
  readonly names?: readonly Buffer[];
  readonly from?: number;
  readonly to?: number;
  readonly usage?: readonly number[];
  readonly purposes?: readonly string[];
  readonly more?: readonly Buffer[];
}

/** A certificate that can be wrong in every way, which the ones we issue cannot. */
function make(extras: Extras): Made {
  const own = extras.key ?? key;
  const name = extras.name ?? "";
  const signer = extras.signedBy ?? extras.issuer?.key ?? own;
  const extension = (id: string, critical: boolean, value: Buffer) =>
    sequence(oid(id), ...(critical ? [encodedTrue] : []), octetString(value));
  const subject = encodeSubject(name === "" ? {} : { commonName: name });
  const algorithm = signatureAlgorithmFor(signer.privateKey);
  const body = sequence(
    explicit(0, integer(2)),
    unsignedInteger(Buffer.of(1)),
    algorithm,
    encodeSubject({ commonName: extras.issuer?.name ?? name }),
    sequence(time(extras.from ?? nowMs - dayMs), time(extras.to ?? nowMs + dayMs)),
    subject,
    publicKeyOf(own.privateKey).spki,
    explicit(
      3,
      sequence(
        ...(extras.ca
          ? [
              extension(
                "2.5.29.19",
                true,
                sequence(encodedTrue, ...(extras.pathLength === undefined ? [] : [integer(extras.pathLength)])),
              ),
            ]
          : []),
        extension("2.5.29.15", true, namedBitString(extras.usage ?? (extras.ca ? [5, 6] : [0]))),
        ...(extras.purposes ? [extension("2.5.29.37", false, sequence(...extras.purposes.map(oid)))] : []),
        ...(extras.names ? [extension("2.5.29.17", true, sequence(...extras.names))] : []),
        ...(extras.more ?? []),
      ),
    ),
  );
  const der = sequence(body, algorithm, bitString(signWith(signer.privateKey, body)));
  return { certificate: decodeCertificate(der), name, key: own };
}

const root = make({ name: "root", ca: true, key: makeKeyPair("ec-p256") });
const intermediate = make({ name: "one", ca: true, pathLength: 0, issuer: root, key: makeKeyPair("ec-p256") });
const leaf = make({ issuer: intermediate, names: [uri(sleep)] });
const chainOf = (...made: readonly Made[]) => made.map(({ certificate }) => certificate.der);
const withConstraint = (host: string) =>
  make({
    name: "narrow",
    ca: true,
    issuer: root,
    key: makeKeyPair("ec-p256"),
    more: [
      sequence(
        oid("2.5.29.30"),
        encodedTrue,
        octetString(sequence(encode(contextTag(0, "constructed"), sequence(uri(host))))),
      ),
    ],
  });

/** CAs one below the other, `count` of them, and a leaf under the last; leaf first. */
function deep(count: number): readonly Buffer[] {
  let issuer = root;
  const all: Made[] = [];
  for (let i = 0; i < count; i++) {
    issuer = make({ name: `ca ${i}`, ca: true, issuer });
    all.unshift(issuer);
  }
  return chainOf(make({ issuer, names: [uri(sleep)] }), ...all);
}

/** Twenty CAs of one name and key, each signed by the others' name: every path is a possible one. */
function maze(): readonly Buffer[] {
  const start = make({ name: "maze", ca: true });
  const walls = Array.from({ length: 9 }, (_, i) =>
    make({ name: "maze", ca: true, issuer: start, to: nowMs + dayMs + i * 1000 }),
  );
  return chainOf(make({ issuer: start, names: [uri(sleep)] }), ...walls);
}

const forgedRoot = make({ name: "root", ca: true, key: makeKeyPair("ec-p256") });
const otherRoot = make({ name: "other root", ca: true, key: makeKeyPair("ec-p256") });
const endedIntermediate = make({ name: "one", ca: true, issuer: root, to: nowMs - 1000 });
const notCa = make({ name: "two", issuer: root, usage: [5] });
const noSigning = make({ name: "three", ca: true, issuer: root, usage: [0] });
const below = make({ name: "below", ca: true, issuer: intermediate });
const narrow = withConstraint("cluster.local");
const elsewhere = withConstraint("other.local");
const otherName = encode(
  contextTag(0, "constructed"),
  Buffer.concat([oid("1.2.3"), explicit(0, encode(0x0c, Buffer.from(sleep)))]),
);

interface Row {
  readonly it: string;
  readonly shown: readonly Uint8Array[];
  readonly gets: PeerProblem | "let in";
  readonly says?: RegExp;
}

const wrongNames = (names: readonly Buffer[]) => chainOf(make({ issuer: intermediate, names }), intermediate);

const rows: readonly Row[] = [
  { it: "a leaf with its intermediate", shown: chainOf(leaf, intermediate), gets: "let in" },
  { it: "a chain in which the root comes along", shown: chainOf(leaf, intermediate, root), gets: "let in" },
  {
    it: "a chain with another CA's certificate among it",
    shown: chainOf(leaf, otherRoot, intermediate),
    gets: "let in",
  },
  { it: "a leaf with DNS names beside its identity", shown: wrongNames([uri(sleep), dns("a.b")]), gets: "let in" },
  {
    it: "a leaf under a CA that may certify its trust domain",
    shown: chainOf(make({ issuer: narrow, names: [uri(sleep)] }), narrow),
    gets: "let in",
  },
  {
    it: "a leaf with the purposes that are needed",
    shown: chainOf(
      make({ issuer: intermediate, names: [uri(sleep)], purposes: ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"] }),
      intermediate,
    ),
    gets: "let in",
  },
  { it: "no certificate", shown: [], gets: "no-identity" },
  { it: "garbage", shown: [Buffer.from("garbage")], gets: "malformed" },
  {
    it: "an expired leaf",
    shown: chainOf(make({ issuer: intermediate, names: [uri(sleep)], to: nowMs - 1000 }), intermediate),
    gets: "expired",
  },
  {
    it: "a leaf of the future",
    shown: chainOf(make({ issuer: intermediate, names: [uri(sleep)], from: nowMs + 1000 }), intermediate),
    gets: "not-yet-valid",
  },
  {
    it: "an expired intermediate",
    shown: chainOf(make({ issuer: endedIntermediate, names: [uri(sleep)] }), endedIntermediate),
    gets: "expired",
    says: /"CN=one" expired/,
  },
  {
    it: "a foreign trust domain",
    shown: wrongNames([uri("spiffe://evil.local/ns/foo/sa/sleep")]),
    gets: "foreign-trust-domain",
  },
  {
    it: "a NUL in the URI",
    shown: wrongNames([uri(`${sleep}\0.evil`)]),
    gets: "no-identity",
    says: /control character/,
  },
  {
    it: "a NUL in a DNS name beside a good URI",
    shown: wrongNames([uri(sleep), dns("a\0.b")]),
    gets: "no-identity",
    says: /control character/,
  },
  { it: "a line break in the URI", shown: wrongNames([uri(`${sleep}\r\nx`)]), gets: "no-identity" },
  {
    it: "an OTHERNAME beside a good URI",
    shown: wrongNames([uri(sleep), otherName]),
    gets: "no-identity",
    says: /kind/,
  },
  { it: "only an OTHERNAME", shown: wrongNames([otherName]), gets: "no-identity" },
  {
    it: "two URIs",
    shown: wrongNames([uri(sleep), uri("spiffe://cluster.local/ns/bar/sa/x")]),
    gets: "several-identities",
  },
  {
    it: "a second URI that is no SPIFFE id",
    shown: wrongNames([uri(sleep), uri("https://x/")]),
    gets: "several-identities",
  },
  { it: "no URI", shown: wrongNames([dns("a.b")]), gets: "no-identity" },
  { it: "a SPIFFE id without a path", shown: wrongNames([uri("spiffe://cluster.local")]), gets: "no-identity" },
  {
    it: "a SPIFFE id with a path that climbs",
    shown: wrongNames([uri("spiffe://a/ns/x/sa/y/../z")]),
    gets: "no-identity",
  },
  {
    it: "a SPIFFE id whose account is ..",
    shown: wrongNames([uri("spiffe://cluster.local/ns/x/sa/..")]),
    gets: "no-identity",
  },
  {
    it: "a SPIFFE id with an escaped slash",
    shown: wrongNames([uri("spiffe://cluster.local/ns/x/sa/y%2fz")]),
    gets: "no-identity",
  },
  {
    it: "a SPIFFE id with an upper-case trust domain",
    shown: wrongNames([uri("spiffe://Cluster.Local/ns/x/sa/y")]),
    gets: "no-identity",
  },
  { it: "a missing intermediate", shown: chainOf(leaf), gets: "untrusted", says: /missing intermediate/ },
  {
    it: "another root",
    shown: chainOf(make({ issuer: otherRoot, names: [uri(sleep)] }), otherRoot),
    gets: "untrusted",
  },
  {
    it: "a forged root of the same name",
    shown: chainOf(make({ issuer: forgedRoot, names: [uri(sleep)] }), forgedRoot),
    gets: "untrusted",
    says: /was not signed by that one's key/,
  },
  {
    it: "a leaf whose signature is another key's",
    shown: chainOf(make({ issuer: intermediate, signedBy: makeKeyPair("ec-p256"), names: [uri(sleep)] }), intermediate),
    gets: "untrusted",
  },
  { it: "twelve CAs, more than may be shown", shown: deep(12), gets: "chain", says: /13 certificates/ },
  { it: "nine CAs, deeper than a chain may be", shown: deep(9), gets: "chain", says: /longer than 8/ },
  { it: "CAs of one name that sign each other in a circle", shown: maze(), gets: "chain", says: /signatures to check/ },
  {
    it: "a CA below one that allows none",
    shown: chainOf(make({ issuer: below, names: [uri(sleep)] }), below, intermediate),
    gets: "chain",
    says: /allows 0 CAs/,
  },
  {
    it: "a leaf signed by a leaf",
    shown: chainOf(make({ issuer: notCa, names: [uri(sleep)] }), notCa),
    gets: "chain",
    says: /no CA/,
  },
  {
    it: "a CA whose key usage forbids signing",
    shown: chainOf(make({ issuer: noSigning, names: [uri(sleep)] }), noSigning),
    gets: "chain",
    says: /may not sign/,
  },
  {
    it: "a CA constrained to another trust domain",
    shown: chainOf(make({ issuer: elsewhere, names: [uri(sleep)] }), elsewhere),
    gets: "chain",
    says: /may not certify/,
  },
  {
    it: "a CA's certificate as a leaf",
    shown: chainOf(make({ issuer: root, ca: true, names: [uri(sleep)] })),
    gets: "purpose",
  },
  {
    it: "a leaf that may sign certificates",
    shown: chainOf(make({ issuer: intermediate, usage: [0, 5], names: [uri(sleep)] }), intermediate),
    gets: "purpose",
  },
  {
    it: "a leaf for code signing",
    shown: chainOf(make({ issuer: intermediate, names: [uri(sleep)], purposes: ["1.3.6.1.5.5.7.3.3"] }), intermediate),
    gets: "purpose",
    says: /TLS client/,
  },
  {
    it: "a leaf for servers only",
    shown: chainOf(make({ issuer: intermediate, names: [uri(sleep)], purposes: ["1.3.6.1.5.5.7.3.1"] }), intermediate),
    gets: "purpose",
  },
  {
    it: "an unknown critical extension",
    shown: chainOf(
      make({
        issuer: intermediate,
        names: [uri(sleep)],
        more: [sequence(oid("1.2.3.4"), encodedTrue, octetString(Buffer.of(5, 0)))],
      }),
      intermediate,
    ),
    gets: "purpose",
    says: /unknown critical/,
  },
];

describe("a peer that shows", () => {
  const bundle = bundleOf([root.certificate]);
  for (const { it, shown, gets, says } of rows) {
    test(`${it} is ${gets === "let in" ? gets : `refused as ${gets}`}`, () => {
      const verdict = verifyPeer(shown, bundle, { nowMs, role: "client", trustDomains: new Set(["cluster.local"]) });
      expect(verdict.ok ? "let in" : `${verdict.problem}`, verdict.ok ? "" : verdict.reason).toBe(gets);
      if (verdict.ok) expect(verdict.identity).toBe(sleep);
      else expect(verdict.reason).toMatch(says ?? /./);
    });
  }

  test("a leaf of either of two roots is let in while both are trusted", () => {
    const both = bundleOf([root.certificate, otherRoot.certificate, root.certificate]);
    expect(both.roots).toHaveLength(2);
    const other = make({ issuer: otherRoot, names: [uri(sleep)] });
    for (const shown of [chainOf(leaf, intermediate), chainOf(other)])
      expect(verifyPeer(shown, both, { nowMs, role: "server" }).ok).toBe(true);
  });

  test("the reason never carries a control character into a log line", () => {
    for (const { shown } of rows) {
      const verdict = verifyPeer(shown, bundle, { nowMs, role: "client" });
      if (!verdict.ok) expect([...verdict.reason].every((letter) => letter >= " ")).toBe(true);
    }
  });
});
