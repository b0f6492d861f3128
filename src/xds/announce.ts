import { create } from "@bufbuild/protobuf";
import type { ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { type TransportSocket, TransportSocketSchema } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { ProxyProtocolConfig_Version } from "../proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { plaintext } from "./tls.ts";
import { extension, type Fields } from "./typed.ts";

type Protection = Fields<typeof ClusterSchema>;

/** Has every connection of a cluster begin, before any TLS, with a PROXY header that says who called. */
export function announcing(protection: Protection, version: "V1" | "V2" | undefined): Protection {
  if (version === undefined) return protection;
  const wrapped = (inner: TransportSocket) =>
    create(
      TransportSocketSchema,
      extension("envoy.transport_sockets.upstream_proxy_protocol", ProxyProtocolUpstreamTransportSchema, {
        config: { version: ProxyProtocolConfig_Version[version] },
        transportSocket: inner,
      }),
    );
  const { transportSocket, transportSocketMatches } = protection;
  if (!transportSocketMatches)
    return { ...protection, transportSocket: wrapped(asSocket(transportSocket) ?? plaintext()) };
  return {
    ...protection,
    transportSocketMatches: transportSocketMatches.map((one) => ({
      ...one,
      transportSocket: wrapped(asSocket(one.transportSocket) ?? plaintext()),
    })),
  };
}

const asSocket = (given: Protection["transportSocket"]) => given && create(TransportSocketSchema, given as never);
