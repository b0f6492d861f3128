import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { certificateSecret, type Secret, trustSecret } from "../config/secret.ts";

x509.cryptoProvider.set(webcrypto as never);
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dayMs = 86_400_000;
let serial = 1;

const pem = (text: ArrayBuffer) =>
  `-----BEGIN PRIVATE KEY-----\n${Buffer.from(text)
    .toString("base64")
    .replace(/.{64}/g, "$&\n")}\n-----END PRIVATE KEY-----\n`;

/** A root of trust made for a test, and what it signs. */
export class TestRoot {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: x509.X509Certificate;

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: x509.X509Certificate) {
    this.#keys = keys;
    this.#certificate = certificate;
  }

  static async make(name = "root"): Promise<TestRoot> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: (serial++).toString(16).padStart(4, "0"),
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - dayMs),
      notAfter: new Date(Date.now() + 365 * dayMs),
      keys: keys as never,
      signingAlgorithm: algorithm,
      extensions: [new x509.BasicConstraintsExtension(true, 2, true)],
    });
    return new TestRoot(keys as webcrypto.CryptoKeyPair, certificate);
  }

  get trust(): Secret {
    return trustSecret(this.#certificate.toString("pem"));
  }

  /** A certificate for both sides, with the given names. */
  async issue(
    names: ReadonlyArray<{ readonly type: "url" | "dns"; readonly value: string }>,
    options: { readonly notBeforeMs?: number; readonly notAfterMs?: number } = {},
  ): Promise<Secret & { kind: "certificate" }> {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: (serial++).toString(16).padStart(4, "0"),
      subject: "",
      issuer: this.#certificate.subject,
      notBefore: new Date(options.notBeforeMs ?? Date.now() - dayMs),
      notAfter: new Date(options.notAfterMs ?? Date.now() + dayMs),
      publicKey: keys.publicKey as never,
      signingKey: this.#keys.privateKey as never,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.SubjectAlternativeNameExtension(
          names.map((name) => ({ ...name })),
          true,
        ),
      ],
    });
    const key = pem(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
    return certificateSecret(`${certificate.toString("pem")}\n`, key) as Secret & { kind: "certificate" };
  }

  /** `spiffe://cluster.local/ns/<namespace>/sa/<account>`. */
  workload(
    namespace: string,
    account: string,
    options: { readonly notAfterMs?: number; readonly notBeforeMs?: number } = {},
  ) {
    return this.issue([{ type: "url", value: `spiffe://cluster.local/ns/${namespace}/sa/${account}` }], options);
  }
}
