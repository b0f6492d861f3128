import { type Ip, ipFamily, parseIp, type SocketAddress } from "../../values/index.ts";

/** Whom a connection carries, as said ahead of its bytes by the PROXY protocol (versions 1 and 2). */
export interface Carried {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

export type ProxyHeader =
  /** `carried` undefined: a health check of whoever stands in front, or an address family that says nothing here. */
  | { readonly kind: "header"; readonly carried: Carried | undefined; readonly length: number }
  | { readonly kind: "more" }
  /** What came begins as no header does. */
  | { readonly kind: "absent" }
  | { readonly kind: "wrong"; readonly reason: string };

const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
/** Longest version 1 line, CR LF included. */
const longestLine = 107;
/** Largest version 2 header taken, type-length-values included. */
const longestBlock = 4096;

export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length === 0) return { kind: "more" };
  if (bytes[0] === signature[0]) return readVersion2(bytes);
  return readVersion1(bytes);
}

function readVersion1(bytes: Buffer): ProxyHeader {
  const start = "PROXY ";
  const head = bytes.toString("latin1", 0, Math.min(bytes.length, longestLine));
  if (!head.startsWith(start) && !start.startsWith(head)) return { kind: "absent" };
  const end = head.indexOf("\r\n");
  if (end < 0) return bytes.length >= longestLine ? { kind: "wrong", reason: "PROXY line too long" } : { kind: "more" };
  const length = end + 2;
  const [, family, from, to, fromPort, toPort, ...rest] = head.slice(0, end).split(" ");
  if (family === "UNKNOWN") return { kind: "header", carried: undefined, length };
  const source = address(from, fromPort);
  const destination = address(to, toPort);
  const wanted = family === "TCP4" ? 4 : family === "TCP6" ? 6 : 0;
  if (
    !source ||
    !destination ||
    rest.length > 0 ||
    ipFamily(source.ip) !== wanted ||
    ipFamily(destination.ip) !== wanted
  )
    return { kind: "wrong", reason: "malformed PROXY line" };
  return { kind: "header", carried: { source, destination }, length };
}

function address(ip: string | undefined, port: string | undefined): SocketAddress | undefined {
  const parsed = parseIp(ip ?? "");
  return parsed && /^(0|[1-9]\d{0,4})$/.test(port ?? "") && Number(port) <= 65535
    ? { ip: parsed, port: Number(port) }
    : undefined;
}

function readVersion2(bytes: Buffer): ProxyHeader {
  const common = Math.min(bytes.length, signature.length);
  if (!bytes.subarray(0, common).equals(signature.subarray(0, common))) return { kind: "absent" };
  if (bytes.length < 16) return { kind: "more" };
  const [command, family] = [bytes[12]!, bytes[13]!];
  const length = 16 + bytes.readUInt16BE(14);
  if (command !== 0x20 && command !== 0x21) return { kind: "wrong", reason: "unknown PROXY version or command" };
  if (length > longestBlock) return { kind: "wrong", reason: "PROXY header too large" };
  if (bytes.length < length) return { kind: "more" };
  if (command === 0x20) return { kind: "header", carried: undefined, length };
  const size = family === 0x11 ? 4 : family === 0x21 ? 16 : 0;
  if (size === 0) return { kind: "header", carried: undefined, length };
  if (length < 16 + 2 * size + 4) return { kind: "wrong", reason: "PROXY header too short for its addresses" };
  const source = { ip: binaryIp(bytes, 16, size), port: bytes.readUInt16BE(16 + 2 * size) };
  const destination = { ip: binaryIp(bytes, 16 + size, size), port: bytes.readUInt16BE(18 + 2 * size) };
  return { kind: "header", carried: { source, destination }, length };
}

function binaryIp(bytes: Buffer, at: number, size: number): Ip {
  if (size === 4) return [...bytes.subarray(at, at + 4)].join(".") as Ip;
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(at + 2 * index).toString(16));
  return parseIp(groups.join(":"))!;
}

export function encodeProxyHeader(version: 1 | 2, { source, destination }: Carried): Buffer {
  const family = ipFamily(source.ip);
  const same = ipFamily(destination.ip) === family;
  if (version === 1) {
    const words = same
      ? [`TCP${family}`, source.ip, destination.ip, source.port, destination.port].join(" ")
      : "UNKNOWN";
    return Buffer.from(`PROXY ${words}\r\n`, "latin1");
  }
  const addresses = same ? [...binary(source.ip), ...binary(destination.ip)] : [];
  const body = Buffer.alloc(same ? addresses.length + 4 : 0);
  if (same) {
    body.set(addresses);
    body.writeUInt16BE(source.port, addresses.length);
    body.writeUInt16BE(destination.port, addresses.length + 2);
  }
  const head = Buffer.from([...signature, 0x21, same ? (family === 4 ? 0x11 : 0x21) : 0, 0, 0]);
  head.writeUInt16BE(body.length, 14);
  return Buffer.concat([head, body]);
}

function binary(ip: Ip): readonly number[] {
  if (ipFamily(ip) === 4) return ip.split(".").map(Number);
  const [left = "", right] = ip.split("::");
  const groups = (text: string) => (text === "" ? [] : text.split(":"));
  const before = groups(left);
  const after = right === undefined ? [] : groups(right);
  const full = [...before, ...Array(8 - before.length - after.length).fill("0"), ...after];
  return full.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255]);
}
