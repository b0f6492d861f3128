import type { TransportSocket } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { ProxyProtocolConfig_Version } from "../../proto/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { ProxyProtocolUpstreamTransportSchema } from "../../proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { type Place, readAny } from "./reading.ts";
import { type DownstreamTls, readDownstreamTls, readUpstreamTls, type UpstreamTls } from "./tls.ts";

/** How a connection to an endpoint is protected, and whether it says first whom it carries. */
export interface UpstreamTransport {
  readonly tls: UpstreamTls | undefined;
  /** Version of the PROXY protocol header that is sent before anything else. */
  readonly proxyHeader: 1 | 2 | undefined;
}

export const rawTransport: UpstreamTransport = Object.freeze({ tls: undefined, proxyHeader: undefined });

const typeName = (socket: TransportSocket) =>
  socket.configType.case === "typedConfig" ? socket.configType.value.typeUrl.replace(/^.*\//, "") : "";
const rawTypes = new Set(["", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"]);

export function readUpstreamTransport(socket: TransportSocket, place: Place): UpstreamTransport | undefined {
  const at = place.field("typed_config");
  const type = typeName(socket);
  if (rawTypes.has(type)) {
    if (type === "" && socket.name !== "envoy.transport_sockets.raw_buffer" && socket.name !== "raw_buffer")
      return at.refuse("is missing");
    return rawTransport;
  }
  if (type === ProxyProtocolUpstreamTransportSchema.typeName) {
    const message = readAny(socket.configType.value, ProxyProtocolUpstreamTransportSchema, at);
    if (!message) return undefined;
    const inner = message.transportSocket
      ? readUpstreamTransport(message.transportSocket, at.field("transport_socket"))
      : at.field("transport_socket").refuse("is missing");
    const version = message.config?.version === ProxyProtocolConfig_Version.V2 ? 2 : 1;
    return inner && { ...inner, proxyHeader: version };
  }
  const message = readAny(socket.configType.value, UpstreamTlsContextSchema, at);
  const tls = message && readUpstreamTls(message, at);
  return tls && { tls, proxyHeader: undefined };
}

/** The TLS of a filter chain; undefined when the bytes are passed on as they are. */
export function readDownstreamTransport(
  socket: TransportSocket | undefined,
  place: Place,
): { readonly tls: DownstreamTls | undefined } {
  if (!socket || (typeName(socket) !== "" && rawTypes.has(typeName(socket)))) return { tls: undefined };
  const at = place.field("typed_config");
  const message = readAny(socket.configType.value, DownstreamTlsContextSchema, at);
  return { tls: message && readDownstreamTls(message, at) };
}
