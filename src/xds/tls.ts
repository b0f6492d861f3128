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
export const tlsParams = {
  tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2,
  tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
};
export const tlsSocket = "envoy.transport_sockets.tls";

const uri = (match: { case: "exact" | "prefix"; value: string }): SubjectAltNameMatcher =>
  create(SubjectAltNameMatcherSchema, { sanType: SubjectAltNameMatcher_SanType.URI, matcher: { matchPattern: match } });

/** A name is a URI when it looks like one, else a DNS name. */
export function matchersOf(server: ServerIdentity): SubjectAltNameMatcher[] {
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

export function plaintext(): TransportSocket {
  return create(TransportSocketSchema, extension("envoy.transport_sockets.raw_buffer", RawBufferSchema, {}));
}
