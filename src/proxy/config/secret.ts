import { readFileSync } from "node:fs";
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
      return chain && key ? { name, secret: certificateSecret(chain, key) } : undefined;
    }
    if (type.case === "validationContext") {
      const roots = readSource(type.value.trustedCa, place.field("validation_context.trusted_ca"));
      return roots ? { name, secret: trustSecret(roots) } : undefined;
    }
    return place.refuse(`must be a tls_certificate or a validation_context, got ${type.case ?? "nothing"}`);
  });
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
