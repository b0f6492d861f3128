import { formatSocketAddress, type Ip, ipFamily, type SocketAddress } from "../../values/index.ts";

const everywhere: Readonly<Record<4 | 6, Ip>> = { 4: "0.0.0.0" as Ip, 6: "::" as Ip };

/**
 * Finds the listener that a captured connection was meant for: the one of exactly its address, else the one of its port
 * on every address. IPv6 destinations also find listeners of `0.0.0.0`: a port's HTTP listener has one address only.
 */
export function findVirtual<T>(byAddress: ReadonlyMap<string, T>, destination: SocketAddress): T | undefined {
  const exact = byAddress.get(formatSocketAddress(destination));
  if (exact !== undefined) return exact;
  const { port } = destination;
  const any = byAddress.get(formatSocketAddress({ ip: everywhere[ipFamily(destination.ip)], port }));
  return any ?? byAddress.get(formatSocketAddress({ ip: everywhere[4], port }));
}
