import { create } from "@bufbuild/protobuf";
import { type TransportSocket, TransportSocketSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { RawBufferSchema } from "../proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import {
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
  TlsParameters_TlsProtocol,
} from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import type { GatewaySpec } from "../resources/index.ts";
import { isHttp, isHttp2, type Protocol } from "../values/index.ts";
import { extension, fromAgent } from "./typed.ts";

/** Names under which a proxy finds its own certificate and the roots it trusts. */
export const secretNames = { certificate: "default", roots: "ROOTCA" } as const;

/** Who the server must be: one of these, or anybody whose identity begins so. */
export type ServerIdentity =
  | { readonly kind: "one-of"; readonly names: readonly string[] }
  | { readonly kind: "begins"; readonly prefix: string };

/**
 * What the ClientHello lists. A mesh server picks chains by these names and agrees to none of them; the last one,
 * `istio`, is understood by every chain, so a caller that declares HTTP also reaches a port declared TCP.
 */
export function meshAlpn(protocol: Protocol): readonly string[] {
  if (isHttp2(protocol)) return ["istio-h2", "istio"];
  return isHttp(protocol) ? ["istio-http/1.1", "istio"] : ["istio"];
}

/** Names that say "a sidecar of this mesh is calling", by what it will speak. */
export const meshHttpAlpn = ["istio-http/1.0", "istio-http/1.1", "istio-h2"] as const;
export const meshTcpAlpn = ["istio-peer-exchange", "istio"] as const;

/** Both said: what a proxy takes as the highest version of a client where nothing is said differs from one to the next. */
const tlsParams = {
  tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2,
  tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
};
const tlsSocket = "envoy.transport_sockets.tls";

const uri = (match: { case: "exact" | "prefix"; value: string }): SubjectAltNameMatcher =>
  create(SubjectAltNameMatcherSchema, { sanType: SubjectAltNameMatcher_SanType.URI, matcher: { matchPattern: match } });

function matchersOf(server: ServerIdentity): SubjectAltNameMatcher[] {
  if (server.kind === "begins") return [uri({ case: "prefix", value: server.prefix })];
  return server.names.map((name) =>
    name.includes("://")
      ? uri({ case: "exact", value: name })
      : create(SubjectAltNameMatcherSchema, {
          sanType: SubjectAltNameMatcher_SanType.DNS,
          matcher: { matchPattern: { case: "exact", value: name } },
        }),
  );
}

/** Mutual TLS of the mesh, as the caller. */
export function meshClientTls(options: {
  readonly sni: string;
  readonly server: ServerIdentity;
  readonly alpn: readonly string[];
}): TransportSocket {
  return create(
    TransportSocketSchema,
    extension(tlsSocket, UpstreamTlsContextSchema, {
      sni: options.sni,
      commonTlsContext: {
        tlsParams,
        alpnProtocols: [...options.alpn],
        tlsCertificateSdsSecretConfigs: [{ name: secretNames.certificate, sdsConfig: fromAgent }],
        validationContextType: {
          case: "combinedValidationContext",
          value: {
            defaultValidationContext: { matchTypedSubjectAltNames: matchersOf(options.server) },
            validationContextSdsSecretConfig: { name: secretNames.roots, sdsConfig: fromAgent },
          },
        },
      },
    }),
  );
}

/** Mutual TLS of the mesh, as the server: any identity under the mesh's roots; who may do what is policy, not this. */
export function meshServerTls(): TransportSocket {
  return create(
    TransportSocketSchema,
    extension(tlsSocket, DownstreamTlsContextSchema, {
      requireClientCertificate: true,
      commonTlsContext: {
        tlsParams,
        alpnProtocols: ["h2", "http/1.1"],
        tlsCertificateSdsSecretConfigs: [{ name: secretNames.certificate, sdsConfig: fromAgent }],
        validationContextType: {
          case: "combinedValidationContext",
          value: {
            defaultValidationContext: {},
            validationContextSdsSecretConfig: { name: secretNames.roots, sdsConfig: fromAgent },
          },
        },
      },
    }),
  );
}

/** TLS that a rule asks for, with files of the proxy's own machine. */
export function ruleClientTls(options: {
  readonly sni: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly roots: string | undefined;
  readonly names: readonly string[];
  readonly alpn: readonly string[];
}): TransportSocket {
  const file = (filename: string) => ({ specifier: { case: "filename" as const, value: filename } });
  const anySan = (name: string) => matchersOf({ kind: "one-of", names: [name] });
  return create(
    TransportSocketSchema,
    extension(tlsSocket, UpstreamTlsContextSchema, {
      sni: options.sni ?? "",
      commonTlsContext: {
        tlsParams,
        alpnProtocols: [...options.alpn],
        tlsCertificates:
          options.certificate !== undefined && options.key !== undefined
            ? [{ certificateChain: file(options.certificate), privateKey: file(options.key) }]
            : [],
        validationContextType: {
          case: "validationContext",
          value: {
            trustedCa: file(options.roots ?? "/etc/ssl/certs/ca-certificates.crt"),
            matchTypedSubjectAltNames: options.names.flatMap(anySan),
          },
        },
      },
    }),
  );
}

export function plaintext(): TransportSocket {
  return create(TransportSocketSchema, extension("envoy.transport_sockets.raw_buffer", RawBufferSchema, {}));
}

type GatewayTls = NonNullable<GatewaySpec["servers"][number]["tls"]>;

/** TLS that a gateway opens for its callers; undefined when the server names no certificate. */
export function gatewayServerTls(tls: GatewayTls): TransportSocket | undefined {
  if (tls.mode === "ISTIO_MUTUAL") return meshServerTls();
  const file = (filename: string) => ({ specifier: { case: "filename" as const, value: filename } });
  const named = tls.credentialName ?? tls.credentialNames[0];
  const files = tls.serverCertificate !== undefined && tls.privateKey !== undefined;
  if (named === undefined && !files) return undefined;
  const mutual = tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL";
  const minimum =
    tls.minProtocolVersion === "TLSV1_3" ? TlsParameters_TlsProtocol.TLSv1_3 : TlsParameters_TlsProtocol.TLSv1_2;
  return create(
    TransportSocketSchema,
    extension(tlsSocket, DownstreamTlsContextSchema, {
      requireClientCertificate: tls.mode === "MUTUAL",
      commonTlsContext: {
        tlsParams: { ...tlsParams, tlsMinimumProtocolVersion: minimum },
        alpnProtocols: ["h2", "http/1.1"],
        ...(named === undefined
          ? { tlsCertificates: [{ certificateChain: file(tls.serverCertificate!), privateKey: file(tls.privateKey!) }] }
          : { tlsCertificateSdsSecretConfigs: [{ name: named, sdsConfig: fromAgent }] }),
        ...(mutual
          ? {
              validationContextType:
                named === undefined
                  ? {
                      case: "validationContext" as const,
                      value: {
                        trustedCa: file(tls.caCertificates ?? ""),
                        matchTypedSubjectAltNames: tls.subjectAltNames.flatMap((name) =>
                          matchersOf({ kind: "one-of", names: [name] }),
                        ),
                      },
                    }
                  : {
                      case: "combinedValidationContext" as const,
                      value: {
                        defaultValidationContext: {
                          matchTypedSubjectAltNames: tls.subjectAltNames.flatMap((name) =>
                            matchersOf({ kind: "one-of", names: [name] }),
                          ),
                        },
                        validationContextSdsSecretConfig: { name: `${named}-cacert`, sdsConfig: fromAgent },
                      },
                    },
            }
          : {}),
      },
    }),
  );
}
