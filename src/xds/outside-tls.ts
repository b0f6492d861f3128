import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type TransportSocket, TransportSocketSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import {
  type CertificateValidationContextSchema,
  TlsParameters_TlsProtocol,
  type TlsParametersSchema,
} from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type CommonTlsContextSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { GatewaySpec, TrafficPolicy } from "../resources/index.ts";
import { keyPairFiles, keyPairOf, type SecretConfig, trustFiles, trustOf } from "./credentials.ts";
import { matchersOf, meshServerTls, tlsParams, tlsSocket } from "./tls.ts";
import { extension, type Fields } from "./typed.ts";

// TLS with those outside the mesh: keys that somebody wrote, in place of the mesh's own.

export type GatewayTls = NonNullable<GatewaySpec["servers"][number]["tls"]>;
type RuleTls = NonNullable<TrafficPolicy["tls"]>;
type CommonFields = Fields<typeof CommonTlsContextSchema>;

/** Roots that are told later, together with what is known now about whom to believe. */
function believing(
  roots: SecretConfig,
  context: MessageInitShape<typeof CertificateValidationContextSchema>,
): Pick<CommonFields, "validationContextType"> {
  return {
    validationContextType: {
      case: "combinedValidationContext",
      value: { defaultValidationContext: context, validationContextSdsSecretConfig: roots },
    },
  };
}

const named = (names: readonly string[]) => ({ matchTypedSubjectAltNames: matchersOf({ kind: "one-of", names }) });

/** TLS that a rule asks for, with files of the proxy's own machine or a Secret of its namespace. */
export function ruleClientTls(
  tls: RuleTls,
  options: {
    readonly sni: string | undefined;
    /** Who may answer, unless the rule itself says who. */
    readonly names: readonly string[];
    readonly alpn: readonly string[];
  },
): TransportSocket {
  const { credentialName, clientCertificate, privateKey, caCertificates, caCrl } = tls;
  const { sni, alpn } = options;
  const names = tls.subjectAltNames.length > 0 ? tls.subjectAltNames : options.names;
  const own: readonly SecretConfig[] =
    tls.mode !== "MUTUAL"
      ? []
      : credentialName !== undefined
        ? [keyPairOf(credentialName)]
        : [keyPairFiles(clientCertificate ?? "", privateKey ?? "")];
  const roots = credentialName !== undefined ? trustOf(credentialName) : trustFiles(caCertificates, caCrl);
  return create(
    TransportSocketSchema,
    extension(tlsSocket, UpstreamTlsContextSchema, {
      sni: sni ?? "",
      commonTlsContext: {
        tlsParams,
        alpnProtocols: [...alpn],
        tlsCertificateSdsSecretConfigs: [...own],
        ...(tls.insecureSkipVerify ? {} : believing(roots, named(names))),
      },
    }),
  );
}

/**
 * TLS that a gateway opens for its callers; undefined when the server names no certificate. What is spoken inside is agreed
 * on for HTTP alone: of other bytes nobody here knows.
 */
export function gatewayServerTls(tls: GatewayTls, inside: "http" | "bytes"): TransportSocket | undefined {
  if (tls.mode === "ISTIO_MUTUAL") return meshServerTls();
  const { own, roots } = sourcesOf(tls);
  if (own.length === 0) return undefined;
  const mutual = tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL";
  return create(
    TransportSocketSchema,
    extension(tlsSocket, DownstreamTlsContextSchema, {
      requireClientCertificate: tls.mode === "MUTUAL",
      commonTlsContext: {
        tlsParams: paramsOf(tls),
        alpnProtocols: inside === "http" ? ["h2", "http/1.1"] : [],
        tlsCertificateSdsSecretConfigs: [...own],
        ...(mutual
          ? believing(roots, {
              ...named(tls.subjectAltNames),
              verifyCertificateSpki: [...tls.verifyCertificateSpki],
              verifyCertificateHash: [...tls.verifyCertificateHash],
            })
          : {}),
      },
    }),
  );
}

/** Where the server's certificates come from, and the roots of its clients. Several certificates differ in their kind of key. */
function sourcesOf(tls: GatewayTls): { readonly own: readonly SecretConfig[]; readonly roots: SecretConfig } {
  const credentials = [...(tls.credentialName === undefined ? [] : [tls.credentialName]), ...tls.credentialNames];
  if (credentials[0] !== undefined) return { own: credentials.map(keyPairOf), roots: trustOf(credentials[0]) };
  const files = [tls, ...tls.tlsCertificates].flatMap(({ serverCertificate, privateKey }) =>
    serverCertificate === undefined || privateKey === undefined ? [] : [keyPairFiles(serverCertificate, privateKey)],
  );
  const roots = [tls, ...tls.tlsCertificates].find((one) => one.caCertificates !== undefined)?.caCertificates;
  return { own: files, roots: trustFiles(roots, tls.caCrl) };
}

const versions: Readonly<Record<GatewayTls["minProtocolVersion"], TlsParameters_TlsProtocol | undefined>> = {
  TLS_AUTO: undefined,
  // Nothing older than 1.2 is spoken, by either data plane.
  TLSV1_0: TlsParameters_TlsProtocol.TLSv1_2,
  TLSV1_1: TlsParameters_TlsProtocol.TLSv1_2,
  TLSV1_2: TlsParameters_TlsProtocol.TLSv1_2,
  TLSV1_3: TlsParameters_TlsProtocol.TLSv1_3,
};

function paramsOf(tls: GatewayTls): MessageInitShape<typeof TlsParametersSchema> {
  return {
    tlsMinimumProtocolVersion: versions[tls.minProtocolVersion] ?? tlsParams.tlsMinimumProtocolVersion,
    tlsMaximumProtocolVersion: versions[tls.maxProtocolVersion] ?? tlsParams.tlsMaximumProtocolVersion,
    cipherSuites: [...tls.cipherSuites],
  };
}
