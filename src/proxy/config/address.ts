import type {
  Address,
  CidrRange,
  SocketAddress as SocketAddressMessage,
} from "../../proto/gen/envoy/config/core/v3/address_pb.js";
import { SocketAddress_Protocol } from "../../proto/gen/envoy/config/core/v3/address_pb.js";
import { type Cidr, parseCidr, parseIp, type SocketAddress } from "../../values/index.ts";
import type { Place } from "./reading.ts";

/** Host and port as an endpoint gives them: `host` may be a name. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

function readSocket(message: Address | undefined, place: Place): SocketAddressMessage | undefined {
  if (message?.address.case !== "socketAddress")
    return place.refuse(`must be a socket_address, got ${message?.address.case ?? "nothing"}`);
  const socket = message.address.value;
  if (socket.protocol !== SocketAddress_Protocol.TCP)
    return place.field("socket_address.protocol").refuse("must be TCP");
  return socket;
}

/** An address that must be a number, with a port that must be one. Port 0 is taken only where `anyPort` says so. */
export function readSocketAddress(
  message: Address | undefined,
  place: Place,
  options: { readonly anyPort?: boolean } = {},
): SocketAddress | undefined {
  const named = readHostPort(message, place, options);
  if (!named) return undefined;
  const ip = parseIp(named.host);
  if (!ip) return place.field("socket_address.address").refuse(`must be an IP address, got "${named.host}"`);
  return { ip, port: named.port };
}

export function readHostPort(
  message: Address | undefined,
  place: Place,
  options: { readonly anyPort?: boolean } = {},
): HostPort | undefined {
  const socket = readSocket(message, place);
  if (!socket) return undefined;
  const at = place.field("socket_address");
  if (socket.portSpecifier.case !== "portValue") return at.field("port_value").refuse("is missing");
  const port = socket.portSpecifier.value;
  if (port > 65535 || (port === 0 && !options.anyPort))
    return at.field("port_value").refuse(`must be between 1 and 65535, got ${port}`);
  if (socket.address === "") return at.field("address").refuse("is missing");
  return { host: socket.address, port };
}

export function readCidr(message: CidrRange, place: Place): Cidr | undefined {
  const text = `${message.addressPrefix}/${message.prefixLen ?? 0}`;
  return parseCidr(text) ?? place.refuse(`must be an address range, got "${text}"`);
}
