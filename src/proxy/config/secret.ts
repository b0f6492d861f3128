import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { DataSource } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { SecretSchema } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type Place, type Read, readBytes } from "./reading.ts";

/** What a proxy shows, and what it trusts. PEM text. Neither is ever logged or dumped: `toJSON` strikes them out. */
export type Secret =
  | { readonly kind: "certificate"; readonly chain: string; readonly key: string; toJSON(): unknown }
  | { readonly kind: "trust"; readonly roots: string; readonly crl: string | undefined; toJSON(): unknown };

/** By name (`default`, `ROOTCA`). A new map when anything in it changed: contexts are remade by its identity. */
export type Secrets = ReadonlyMap<string, Secret>;

export function certificateSecret(chain: string, key: string): Secret {
  return { kind: "certificate", chain, key, toJSON: () => ({ kind: "certificate", chain: "…", key: "…" }) };
}

export function trustSecret(roots: string, crl?: string): Secret {
  return { kind: "trust", roots, crl, toJSON: () => ({ kind: "trust", roots: "…" }) };
}

/** An SDS resource to its name and secret. */
export function readSecret(bytes: Uint8Array): Read<{ readonly name: string; readonly secret: Secret }> {
  return readBytes(SecretSchema, bytes, (message, place) => {
    const { type, name } = message;
    if (type.case === "tlsCertificate") {
      const chain = readSource(type.value.certificateChain, place.field("tls_certificate.certificate_chain"));
      const key = readSource(type.value.privateKey, place.field("tls_certificate.private_key"));
      return chain && key ? usable(name, certificateSecret(chain, key), place) : undefined;
    }
    if (type.case === "validationContext") {
      const roots = readSource(type.value.trustedCa, place.field("validation_context.trusted_ca"));
      const crl = type.value.crl && readSource(type.value.crl, place.field("validation_context.crl"));
      return roots ? usable(name, trustSecret(roots, crl), place) : undefined;
    }
    return place.refuse(`must be a tls_certificate or a validation_context, got ${type.case ?? "nothing"}`);
  });
}

function usable(name: string, secret: Secret, place: Place) {
  const problem = problemOf(secret);
  return problem === undefined ? { name, secret } : place.refuse(problem);
}

/** Why no TLS can be spoken with a secret; undefined when it can. Quotes nothing of it. */
export function problemOf(secret: Secret): string | undefined {
  try {
    if (secret.kind === "certificate") createSecureContext({ cert: secret.chain, key: secret.key });
    else {
      if (!secret.roots.includes("-----BEGIN CERTIFICATE-----")) return "there is no certificate in it";
      createSecureContext({ ca: [secret.roots], ...(secret.crl ? { crl: secret.crl } : {}) });
    }
    return undefined;
  } catch (caught) {
    // OpenSSL's words may quote the text that it was given; its reason does not.
    const { code = "", reason = "it cannot be read" } = caught as { code?: string; reason?: string };
    const what = secret.kind === "certificate" ? "certificate and key" : "roots";
    return `the ${what} cannot be used: ${reason}${code === "" ? "" : ` (${code})`}`;
  }
}

/** The text of a data source. A file is read now: what it holds later is another secret. */
export function readSource(source: DataSource | undefined, place: Place): string | undefined {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case "inlineBytes":
      return Buffer.from(specifier.value).toString("utf8");
    case "inlineString":
      return specifier.value;
    case "filename":
      try {
        return readFileSync(specifier.value, "utf8");
      } catch (caught) {
        return place.refuse(`cannot read "${specifier.value}": ${(caught as Error).message}`);
      }
    case "environmentVariable":
      return place.refuse("environment variables are not read; give a file or the text itself");
    default:
      return place.refuse("is missing");
  }
}
