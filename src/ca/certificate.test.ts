import "reflect-metadata";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Cell, Failure } from "../base/index.ts";
import { FakeClock, scratchDir } from "../testing/index.ts";
import { parseIp, parseSpiffeId } from "../values/index.ts";
import { Authority } from "./authority.ts";
import { decodeCertificate, decodeCertificates } from "./certificate.ts";
import { decodeCsr, encodeCsr } from "./csr.ts";
import { type keyTypes, makeKeyPair } from "./keys.ts";
import { createIntermediate, createRoot } from "./make-cacerts.ts";
import { encodePem } from "./pem.ts";
import { checkCacerts } from "./roots.ts";

const nowMs = Math.floor(Date.now() / 1000) * 1000;
const identity = parseSpiffeId("spiffe://cluster.local/ns/foo/sa/sleep")!;
const openssl = (...args: string[]) => execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });

function authorityOf(keyType: (typeof keyTypes)[number]) {
  const root = createRoot({ nowMs, keyType });
  const files = createIntermediate({ nowMs, keyType, issuer: root, cluster: "cluster1" });
  const checked = checkCacerts(files, { nowMs, demo: "refused" });
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems));
  const authority = new Authority({
    cacerts: new Cell(checked.cacerts),
    clock: new FakeClock(nowMs),
    settings: { trustDomain: "cluster.local" },
  });
  return { authority, files };
}

describe("certificates", () => {
  for (const keyType of ["ec-p256", "ec-p384", "rsa-2048"] as const) {
    test(`openssl, with all its strictness, believes what a CA of ${keyType} signs`, () => {
      const { authority, files } = authorityOf(keyType);
      const dir = scratchDir();
      const leafKey = makeKeyPair(keyType);
      const issued = authority.signServer(encodeCsr(leafKey.privateKey), {
        identity,
        dnsNames: ["isthmus.isthmus-system.svc"],
        ips: [parseIp("10.0.0.1")!, parseIp("2001:db8::7:1")!],
      });
      writeFileSync(join(dir, "leaf.pem"), issued.certificate);
      writeFileSync(join(dir, "root.pem"), files["root-cert.pem"]);
      writeFileSync(join(dir, "chain.pem"), files["cert-chain.pem"]);
      for (const purpose of ["sslserver", "sslclient"])
        expect(
          openssl(
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            join(dir, "root.pem"),
            "-untrusted",
            join(dir, "chain.pem"),
            join(dir, "leaf.pem"),
          ),
        ).toMatch(/: OK/);
      const text = openssl("x509", "-in", join(dir, "leaf.pem"), "-noout", "-text");
      expect(text).toMatch(
        /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster.local\/ns\/foo\/sa\/sleep, DNS:isthmus.isthmus-system.svc, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:7:1/,
      );
      expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
      expect(text).toMatch(/TLS Web Server Authentication, TLS Web Client Authentication/);
      expect(text).toMatch(/Subject: *\n/);
    });
  }

  test("ours, Node's and @peculiar/x509's readers agree", () => {
    const { authority, files } = authorityOf("ec-p256");
    const { certificate } = authority.sign(encodeCsr(makeKeyPair("ec-p256").privateKey), identity);
    for (const pem of [certificate, files["ca-cert.pem"], files["root-cert.pem"]]) {
      const [ours] = decodeCertificates(pem);
      const node = new X509Certificate(pem);
      const peculiar = new x509.X509Certificate(pem);
      expect(ours!.serial.replace(/^00/, "")).toBe(node.serialNumber.toLowerCase());
      expect(ours!.serial).toBe(peculiar.serialNumber);
      expect(new Date(ours!.notBefore)).toEqual(new Date(node.validFrom));
      expect(new Date(ours!.notAfter)).toEqual(peculiar.notAfter);
      expect(ours!.isCa).toBe(node.ca);
      expect(ours!.publicKey.object.equals(node.publicKey)).toBe(true);
      expect(ours!.names.map((name) => ("value" in name ? name.value : ""))).toEqual(
        peculiar.getExtension(x509.SubjectAlternativeNameExtension)?.names.items.map(({ value }) => value) ?? [],
      );
      expect(ours!.pathLength).toBe(peculiar.getExtension(x509.BasicConstraintsExtension)?.pathLength);
    }
  });

  test("serial numbers are positive, 128 bits long and never the same", () => {
    const { authority } = authorityOf("ec-p256");
    const csr = encodeCsr(makeKeyPair("ec-p256").privateKey);
    const serials = Array.from(
      { length: 50 },
      () => decodeCertificates(authority.sign(csr, identity).certificate)[0]!.serial,
    );
    expect(new Set(serials).size).toBe(50);
    expect(serials.every((serial) => /^[4-7][0-9a-f]{31}$/.test(serial))).toBe(true);
  });

  test("no prefix, no flipped byte and no garbage makes a certificate's reader do anything but read or refuse", () => {
    const { authority } = authorityOf("ec-p256");
    const good = decodeCertificates(
      authority.sign(encodeCsr(makeKeyPair("ec-p256").privateKey), identity).certificate,
    )[0]!.der;
    for (let length = 0; length < good.length; length++)
      expect(() => decodeCertificate(good.subarray(0, length))).toThrow(Failure);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
        const bad = Buffer.from(good);
        bad[at] = value;
        onlyFailures(() => decodeCertificate(bad));
      }),
      { seed: 11, numRuns: 2000 },
    );
  });
});

describe("requests", () => {
  test("openssl reads and believes our requests", () => {
    const dir = scratchDir();
    for (const keyType of ["ec-p256", "ec-p384", "rsa-2048"] as const) {
      writeFileSync(
        join(dir, "csr.pem"),
        encodeCsr(makeKeyPair(keyType).privateKey, [{ kind: "uri", value: identity }]),
      );
      expect(openssl("req", "-in", join(dir, "csr.pem"), "-noout", "-verify", "-text")).toMatch(
        /URI:spiffe:\/\/cluster.local\/ns\/foo\/sa\/sleep/,
      );
    }
  });

  for (const [name, args] of [
    ["P-256", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]],
    ["P-384", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
    ["RSA 2048", ["-newkey", "rsa:2048"]],
    ["RSA 4096", ["-newkey", "rsa:4096"]],
  ] as const) {
    test(`a request that openssl makes with ${name} is read`, { timeout: 30_000 }, () => {
      const dir = scratchDir();
      const csr = openssl(
        "req",
        "-new",
        "-nodes",
        ...args,
        "-keyout",
        join(dir, "key.pem"),
        "-subj",
        "/O=x/CN=y",
        "-addext",
        "subjectAltName=DNS:evil.example",
      );
      expect(decodeCsr(csr).type).toMatchObject(
        name.startsWith("RSA") ? { kind: "rsa", bits: Number(name.slice(4)) } : { kind: "ec", curve: name },
      );
    });
  }

  const weak = [
    { it: "RSA 1024", args: ["-newkey", "rsa:1024"], says: /1024 bits/ },
    { it: "the curve secp256k1", args: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], says: /curve/ },
    { it: "P-521", args: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], says: /P-521/ },
    {
      it: "a curve by its parameters",
      args: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
      says: /named curve/,
    },
    { it: "Ed25519", args: ["-newkey", "ed25519"], says: /neither elliptic nor RSA/ },
    { it: "a SHA-1 signature", args: ["-newkey", "rsa:2048", "-sha1"], says: /SHA-256/ },
  ];
  for (const { it, args, says } of weak) {
    test(`${it} is refused`, () => {
      const dir = scratchDir();
      const csr = openssl("req", "-new", "-nodes", ...args, "-keyout", join(dir, "key.pem"), "-subj", "/CN=y");
      expect(() => decodeCsr(csr)).toThrow(says);
    });
  }

  test("a point that is not on its curve is refused", () => {
    const der = Buffer.from(encodeCsr(makeKeyPair("ec-p256").privateKey).replace(/-----[^-]+-----|\s/g, ""), "base64");
    der[der.indexOf(Buffer.from("03420004", "hex")) + 40]! ^= 1;
    expect(() => decodeCsr(encodePem("CERTIFICATE REQUEST", der))).toThrow(/no such public key/);
  });

  test("a request for somebody else's key is refused: the signature must be the key's own", () => {
    const body = (csr: string) => Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const mine = body(encodeCsr(makeKeyPair("ec-p256").privateKey));
    const theirs = body(encodeCsr(makeKeyPair("ec-p256").privateKey));
    // Same layout: the point is the last 65 bytes before the empty attributes, so theirs can stand in for mine.
    const at = mine.indexOf(Buffer.from("03420004", "hex")) + 4;
    theirs.copy(mine, at, at, at + 64);
    expect(() => decodeCsr(encodePem("CERTIFICATE REQUEST", mine))).toThrow(/not made by its own key/);
  });

  test("no prefix, no flipped byte and no text makes the reader do anything but read or refuse", () => {
    const good = encodeCsr(makeKeyPair("ec-p256").privateKey);
    const der = Buffer.from(good.replace(/-----[^-]+-----|\s/g, ""), "base64");
    for (let length = 1; length < der.length; length++)
      expect(() => decodeCsr(encodePem("CERTIFICATE REQUEST", der.subarray(0, length)))).toThrow(Failure);
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), fc.string({ maxLength: 200 }), (at, value, text) => {
        const bad = Buffer.from(der);
        bad[at] = value;
        onlyFailures(() => decodeCsr(encodePem("CERTIFICATE REQUEST", bad)));
        onlyFailures(() => decodeCsr(text));
        onlyFailures(() => decodeCsr(`${good.slice(0, at)}${text}${good.slice(at)}`));
      }),
      { seed: 13, numRuns: 1000 },
    );
  });
});

function onlyFailures(run: () => unknown): void {
  try {
    run();
  } catch (caught) {
    if (!(caught instanceof Failure)) throw caught;
  }
}
