import {
  type CertificateValidationContext,
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { SdsSecretConfig } from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type {
  CommonTlsContext,
  DownstreamTlsContext,
  UpstreamTlsContext,
} from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { StringMatcher } from "../../proto/gen/envoy/type/matcher/v3/string_pb.js";
import type { Place } from "./reading.ts";
import { certificateSecret, readSource, type Secret, trustSecret } from "./secret.ts";

/**
 * A secret by name, told by the control plane or handed over by the agent, and rotated; or one that stands in the
 * configuration itself.
 */
export type SecretSource =
  | { readonly kind: "named"; readonly name: string; readonly from: "control-plane" | "agent" }
  | { readonly kind: "inline"; readonly secret: Secret };

/** One name that the far end's certificate may carry. `type` undefined: a URI or a DNS name. */
export interface NameMatcher {
  readonly type: "uri" | "dns" | "ip" | undefined;
  readonly how: "exact" | "prefix" | "suffix" | "contains" | "regex";
  readonly text: string;
  readonly ignoreCase: boolean;
}

interface TlsCommon {
  readonly alpn: readonly string[];
  /** Several differ in their kind of key; what the far end understands decides. */
  readonly certificates: readonly SecretSource[];
  readonly trust: SecretSource | undefined;
  /** One of them must match; none means that any verified certificate is fine. */
  readonly names: readonly NameMatcher[];
  /** One of these must be the far end's certificate, or its public key: SHA-256 in lower case hexadecimal, and in base64. */
  readonly pins: { readonly certificates: ReadonlySet<string>; readonly keys: ReadonlySet<string> } | undefined;
  /** For TLS 1.2, in order; those of the runtime when undefined. */
  readonly ciphers: string | undefined;
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion: "TLSv1.2" | "TLSv1.3";
}

/** How a listener's chain opens TLS. The same object as long as its configuration does not change. */
export interface DownstreamTls extends TlsCommon {
  readonly kind: "downstream";
  readonly requireClientCertificate: boolean;
}

/** How a cluster speaks TLS to its endpoints. */
export interface UpstreamTls extends TlsCommon {
  readonly kind: "upstream";
  /** Server name sent; undefined sends none. */
  readonly sni: string | undefined;
}

/** Names of the secrets that the control plane is asked for. */
export function toldSecretsOf(tls: DownstreamTls | UpstreamTls | undefined): readonly string[] {
  return namesFrom(tls, "control-plane");
}

/** Names of the secrets that the agent is asked for. */
export function agentSecretsOf(tls: DownstreamTls | UpstreamTls | undefined): readonly string[] {
  return namesFrom(tls, "agent");
}

function namesFrom(tls: DownstreamTls | UpstreamTls | undefined, from: "control-plane" | "agent"): readonly string[] {
  const sources = tls ? [...tls.certificates, ...(tls.trust ? [tls.trust] : [])] : [];
  return sources.flatMap((one) => (one.kind === "named" && one.from === from ? [one.name] : []));
}

export function readDownstreamTls(message: DownstreamTlsContext, place: Place): DownstreamTls | undefined {
  const common = readCommon(message.commonTlsContext, place.field("common_tls_context"));
  if (!common) return undefined;
  if (common.certificates.length === 0)
    return place.refuse("has no certificate to show; name one by sds or give it inline");
  const requireClientCertificate = message.requireClientCertificate ?? false;
  if (requireClientCertificate && !common.trust)
    return place.refuse("requires a client certificate and has no trust bundle to verify it with");
  return { kind: "downstream", ...common, requireClientCertificate };
}

export function readUpstreamTls(message: UpstreamTlsContext, place: Place): UpstreamTls | undefined {
  const common = readCommon(message.commonTlsContext, place.field("common_tls_context"));
  if (!common) return undefined;
  if (common.names.length > 0 && !common.trust)
    return place.refuse("asks for names of a certificate and has no trust bundle to verify it with");
  return { kind: "upstream", ...common, sni: message.sni === "" ? undefined : message.sni };
}

function readCommon(message: CommonTlsContext | undefined, place: Place): TlsCommon | undefined {
  if (!message) return place.refuse("is missing");
  const alpnBytes = message.alpnProtocols.reduce((sum, name) => sum + 1 + Buffer.byteLength(name), 0);
  if (message.alpnProtocols.some((name) => name === "" || Buffer.byteLength(name) > 255) || alpnBytes > 65535)
    place.field("alpn_protocols").refuse("each must have 1 to 255 bytes");
  const [minVersion, maxVersion] = readVersions(message, place.field("tls_params"));
  const validation = readValidation(message, place);
  return {
    alpn: message.alpnProtocols,
    certificates: readCertificates(message, place),
    trust: validation.trust,
    names: validation.names,
    pins: validation.pins,
    ciphers: message.tlsParams?.cipherSuites.join(":") || undefined,
    minVersion,
    maxVersion,
  };
}

function readVersions(message: CommonTlsContext, place: Place): ["TLSv1.2" | "TLSv1.3", "TLSv1.2" | "TLSv1.3"] {
  const params = message.tlsParams;
  const old = [TlsParameters_TlsProtocol.TLSv1_0, TlsParameters_TlsProtocol.TLSv1_1];
  // A minimum below 1.2 is raised to it; a maximum below 1.2 cannot be met.
  if (params && old.includes(params.tlsMaximumProtocolVersion))
    place.field("tls_maximum_protocol_version").refuse("must be TLSv1_2 or TLSv1_3: older versions are not spoken");
  return [
    params?.tlsMinimumProtocolVersion === TlsParameters_TlsProtocol.TLSv1_3 ? "TLSv1.3" : "TLSv1.2",
    params?.tlsMaximumProtocolVersion === TlsParameters_TlsProtocol.TLSv1_2 ? "TLSv1.2" : "TLSv1.3",
  ];
}

function readCertificates(message: CommonTlsContext, place: Place): readonly SecretSource[] {
  const inline = message.tlsCertificates.flatMap((one, index): SecretSource[] => {
    const at = place.field("tls_certificates").item(index);
    const chain = readSource(one.certificateChain, at.field("certificate_chain"));
    const key = readSource(one.privateKey, at.field("private_key"));
    return chain && key ? [{ kind: "inline", secret: certificateSecret(chain, key) }] : [];
  });
  return [...message.tlsCertificateSdsSecretConfigs.map(named), ...inline];
}

function named({ name, sdsConfig }: SdsSecretConfig): SecretSource {
  const told = sdsConfig?.configSourceSpecifier.case === "ads";
  return { kind: "named", name, from: told ? "control-plane" : "agent" };
}

type Validation = Pick<TlsCommon, "trust" | "names" | "pins">;

const unchecked: Validation = { trust: undefined, names: [], pins: undefined };

function readValidation(message: CommonTlsContext, place: Place): Validation {
  const type = message.validationContextType;
  switch (type.case) {
    case undefined:
      return unchecked;
    case "validationContext":
      return readValidationContext(type.value, place.field("validation_context"));
    case "validationContextSdsSecretConfig":
      return { ...unchecked, trust: named(type.value) };
    case "combinedValidationContext": {
      const at = place.field("combined_validation_context");
      const inner = type.value.defaultValidationContext
        ? readValidationContext(type.value.defaultValidationContext, at.field("default_validation_context"))
        : unchecked;
      const told = type.value.validationContextSdsSecretConfig;
      return { ...inner, trust: told ? named(told) : inner.trust };
    }
    default:
      place.refuse(`validation by ${type.case} is not known; use sds or a validation context`);
      return unchecked;
  }
}

function readValidationContext(context: CertificateValidationContext, place: Place): Validation {
  if (context.allowExpiredCertificate)
    place.field("allow_expired_certificate").refuse("expired certificates are never taken");
  if (context.trustChainVerification !== 0)
    place.field("trust_chain_verification").refuse("must be VERIFY_TRUST_CHAIN");
  const roots = context.trustedCa ? readSource(context.trustedCa, place.field("trusted_ca")) : undefined;
  const crl = context.crl ? readSource(context.crl, place.field("crl")) : undefined;
  const names = [
    ...context.matchTypedSubjectAltNames.map((typed, index) => {
      const at = place.field("match_typed_subject_alt_names").item(index);
      const type = sanTypes[typed.sanType];
      if (!type) return at.field("san_type").refuse("must be URI, DNS or IP_ADDRESS");
      return readMatcher(typed.matcher, type, at.field("matcher"));
    }),
    ...context.matchSubjectAltNames.map((matcher, index) =>
      readMatcher(matcher, undefined, place.field("match_subject_alt_names").item(index)),
    ),
  ];
  return {
    trust: roots === undefined ? undefined : { kind: "inline", secret: trustSecret(roots, crl) },
    names: names.filter((name) => name !== undefined),
    pins: readPins(context),
  };
}

function readPins({ verifyCertificateHash, verifyCertificateSpki }: CertificateValidationContext): TlsCommon["pins"] {
  if (verifyCertificateHash.length + verifyCertificateSpki.length === 0) return undefined;
  return {
    certificates: new Set(verifyCertificateHash.map((hash) => hash.replaceAll(":", "").toLowerCase())),
    keys: new Set(verifyCertificateSpki),
  };
}

const sanTypes: Readonly<Record<number, "uri" | "dns" | "ip">> = {
  [SubjectAltNameMatcher_SanType.URI]: "uri",
  [SubjectAltNameMatcher_SanType.DNS]: "dns",
  [SubjectAltNameMatcher_SanType.IP_ADDRESS]: "ip",
};

function readMatcher(
  matcher: StringMatcher | undefined,
  type: NameMatcher["type"],
  place: Place,
): NameMatcher | undefined {
  const pattern = matcher?.matchPattern;
  const ignoreCase = matcher?.ignoreCase ?? false;
  switch (pattern?.case) {
    case "exact":
    case "prefix":
    case "suffix":
    case "contains":
      return { type, how: pattern.case, text: pattern.value, ignoreCase };
    case "safeRegex":
      try {
        new RegExp(`^(?:${pattern.value.regex})$`, "u");
      } catch (caught) {
        return place.field("safe_regex").refuse(`is no regular expression: ${(caught as Error).message}`);
      }
      return { type, how: "regex", text: pattern.value.regex, ignoreCase };
    default:
      return place.refuse(`must be exact, prefix, suffix, contains or safe_regex, got ${pattern?.case ?? "nothing"}`);
  }
}
