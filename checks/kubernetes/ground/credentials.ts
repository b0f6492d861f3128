import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { issueCertificate, keyIdOf } from "../../../src/ca/issue.ts";
import { makeKeyPair, publicKeyOf } from "../../../src/ca/keys.ts";
import { encodeSubject, type GeneralName } from "../../../src/ca/names.ts";
import { encodePem } from "../../../src/ca/pem.ts";
import { parseIp } from "../../../src/values/index.ts";

/** A certificate and its key, both PEM. */
export interface IssuedPair {
  readonly certificate: string;
  readonly key: string;
}

/** What one cluster's control plane trusts and shows, all of it PEM and a day old at most. */
export interface Credentials {
  readonly ca: string;
  /** Signs and proves the tokens of service accounts. */
  readonly accounts: { readonly privateKey: string; readonly publicKey: string };
  /** A certificate below this CA: for a user (`commonName`) in a group (`organization`), or a server under its names. */
  issue(request: {
    readonly commonName: string;
    readonly organization?: string;
    readonly names?: readonly string[];
  }): IssuedPair;
}

const hourMs = 3_600_000;

export function makeCredentials(cluster: string, nowMs: number): Credentials {
  const { privateKey } = makeKeyPair("ec-p256");
  const publicKey = publicKeyOf(privateKey);
  const subject = { organization: "test ground", commonName: `${cluster} Kubernetes CA` };
  const signer = { subject: encodeSubject(subject), keyId: keyIdOf(publicKey), privateKey };
  const life = { notBefore: nowMs - hourMs, notAfter: nowMs + 24 * hourMs };
  const ca = issueCertificate({ subject, publicKey, names: [], ...life, use: { kind: "ca", pathLength: 0 } }, signer);
  const accounts = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    ca: encodePem("CERTIFICATE", ca),
    accounts: {
      privateKey: pemOf(accounts.privateKey),
      publicKey: accounts.publicKey.export({ format: "pem", type: "spki" }).toString(),
    },
    issue({ commonName, organization = "", names = [] }) {
      const pair = makeKeyPair("ec-p256");
      const certificate = issueCertificate(
        {
          subject: { organization, commonName },
          publicKey: publicKeyOf(pair.privateKey),
          names: names.map(nameOf),
          ...life,
          use: { kind: "leaf" },
        },
        signer,
      );
      return { certificate: encodePem("CERTIFICATE", certificate), key: pemOf(pair.privateKey) };
    },
  };
}

function nameOf(text: string): GeneralName {
  const ip = /^[\d.]+$/.test(text) ? parseIp(text) : undefined;
  return ip ? { kind: "ip", value: ip } : { kind: "dns", value: text };
}

function pemOf(key: KeyObject): string {
  return key.export({ format: "pem", type: "pkcs8" }).toString();
}
