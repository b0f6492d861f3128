import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

/** A root of a test's own, made by another implementation than ours, and what it signs. PEM. */
export interface TestAuthority {
  readonly rootPem: string;
  /** A leaf for these names, good for client and server; the roots beside it are this authority's. */
  issue(names: { readonly uris?: readonly string[]; readonly dns?: readonly string[] }): Promise<{
    readonly certChainPem: string;
    readonly privateKeyPem: string;
    readonly rootsPem: string;
  }>;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const hour = 3_600_000;

export async function testAuthority(commonName = "test root"): Promise<TestAuthority> {
  x509.cryptoProvider.set(webcrypto as never);
  const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const validity = () => ({ notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + hour) });
  const rootKeys = (await newKeys()) as webcrypto.CryptoKeyPair;
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}`,
    keys: rootKeys as never,
    signingAlgorithm: algorithm,
    ...validity(),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const rootPem = `${root.toString("pem")}\n`;
  return {
    rootPem,
    async issue({ uris = [], dns = [] }) {
      const keys = (await newKeys()) as webcrypto.CryptoKeyPair;
      const names = [
        ...uris.map((value) => ({ type: "url" as const, value })),
        ...dns.map((value) => ({ type: "dns" as const, value })),
      ];
      const leaf = await x509.X509CertificateGenerator.create({
        subject: "O=test",
        issuer: root.subject,
        publicKey: keys.publicKey as never,
        signingKey: rootKeys.privateKey as never,
        signingAlgorithm: algorithm,
        ...validity(),
        extensions: [
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]),
          ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
        ],
      });
      const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
      return {
        certChainPem: `${leaf.toString("pem")}\n`,
        privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${key.match(/.{1,64}/g)!.join("\n")}\n-----END PRIVATE KEY-----\n`,
        rootsPem: rootPem,
      };
    },
  };
}
