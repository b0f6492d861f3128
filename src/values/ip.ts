import { BlockList, isIPv4, isIPv6 } from "node:net";

declare const brand: unique symbol;

/** An IPv4 or IPv6 address in its shortest usual text form, no zone, no brackets. Made only by `parseIp`. */
export type Ip = string & { readonly [brand]: "Ip" };

export function parseIp(text: string): Ip | undefined {
  if (isIPv4(text)) return text as Ip;
  if (!isIPv6(text) || text.includes("%")) return undefined;
  // The URL parser writes IPv6 the one way that RFC 5952 says.
  return new URL(`http://[${text}]`).hostname.slice(1, -1) as Ip;
}

export function ipFamily(ip: Ip): 4 | 6 {
  return ip.includes(":") ? 6 : 4;
}

/** IPv4 as a number from 0 to 2^32 − 1. */
export function ipv4ToNumber(ip: Ip): number {
  return ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

export function ipv4FromNumber(number: number): Ip {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".") as Ip;
}

/** A range of addresses: `10.0.0.0/8`. A single address is a range of its full length. */
export interface Cidr {
  readonly ip: Ip;
  readonly prefix: number;
}

/** `IP` or `IP/PREFIX`; undefined when the address or the length is wrong. */
export function parseCidr(text: string): Cidr | undefined {
  const [address, length, ...rest] = text.split("/");
  const ip = parseIp(address ?? "");
  if (!ip || rest.length > 0) return undefined;
  const longest = ipFamily(ip) === 4 ? 32 : 128;
  if (length === undefined) return { ip, prefix: longest };
  if (!/^\d{1,3}$/.test(length) || Number(length) > longest) return undefined;
  return { ip, prefix: Number(length) };
}

const blockLists = new WeakMap<Cidr, BlockList>();

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  if (ipFamily(cidr.ip) !== ipFamily(ip)) return false;
  let list = blockLists.get(cidr);
  if (!list) {
    list = new BlockList();
    list.addSubnet(cidr.ip, cidr.prefix, ipFamily(cidr.ip) === 4 ? "ipv4" : "ipv6");
    blockLists.set(cidr, list);
  }
  return list.check(ip, ipFamily(ip) === 4 ? "ipv4" : "ipv6");
}

/** Where to connect or listen. Never a name. */
export interface SocketAddress {
  readonly ip: Ip;
  readonly port: number;
}

/** `10.0.0.1:80`, `[2001:db8::1]:80`. */
export function formatSocketAddress(address: SocketAddress): string {
  return ipFamily(address.ip) === 6 ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

export function parseSocketAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const ip = match && parseIp(match[1] ?? match[2] ?? "");
  const port = Number(match?.[3]);
  return ip && port <= 65535 ? { ip, port } : undefined;
}

/** Why an address must not be a service's virtual one; undefined when it may. */
export function virtualAddressProblem(ip: Ip): "multicast" | "loopback" | "unspecified" | "link-local" | undefined {
  if (ipFamily(ip) === 4) {
    const first = Number(ip.split(".")[0]);
    if (first >= 224 && first <= 239) return "multicast";
    if (first === 127) return "loopback";
    if (first === 0) return "unspecified";
    return ip.startsWith("169.254.") ? "link-local" : undefined;
  }
  if (ip === "::1") return "loopback";
  if (ip === "::") return "unspecified";
  if (/^ff/i.test(ip)) return "multicast";
  return /^fe[89ab]/i.test(ip) ? "link-local" : undefined;
}
