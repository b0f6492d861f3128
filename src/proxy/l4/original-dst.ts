import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { endianness } from "node:os";
import { Failure } from "../../base/index.ts";
import { parseIp, type SocketAddress } from "../../values/index.ts";

/** Where the caller of an accepted connection meant to go before it was redirected; undefined when it was not. */
export type OriginalDestination = (socket: Socket) => SocketAddress | undefined;

/** Linux: getsockopt levels and the option that netfilter answers, the same number for both families. */
const solIp = 0;
const solIpv6 = 41;
const soOriginalDst = 80;
const afInet = 2;

type GetSockOpt = (fd: number, level: number, option: number, value: Buffer, length: number[]) => number;

/**
 * Loads the one native call that this proxy needs. Throws a `Failure` (`capture/no-native`) where it cannot be had:
 * on another system than Linux, or without the optional package.
 */
export function loadOriginalDestination(): OriginalDestination {
  if (process.platform !== "linux")
    throw new Failure("capture/no-native", `connections cannot be captured on "${process.platform}", only on Linux`, {
      hint: "use explicit proxying",
    });
  let getsockopt: GetSockOpt;
  try {
    // Loaded only here: a program without capture runs without the package.
    const koffi = createRequire(import.meta.url)("koffi") as {
      load(path: string | null): { func(prototype: string): GetSockOpt };
    };
    getsockopt = koffi
      .load(null)
      .func("int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *length)");
  } catch (cause) {
    throw new Failure(
      "capture/no-native",
      `cannot load koffi to read original destinations: ${(cause as Error).message}`,
      {
        hint: "install optional dependencies, or use explicit proxying",
        cause,
      },
    );
  }
  return (socket) => {
    const fd = descriptorOf(socket);
    if (fd < 0) return undefined;
    const four = isFour(socket.localAddress ?? "");
    const value = Buffer.alloc(28);
    if (getsockopt(fd, four ? solIp : solIpv6, soOriginalDst, value, [value.length]) !== 0) return undefined;
    const found = readSockAddr(value);
    // With connection tracking the kernel answers with our own address for a connection that nobody redirected.
    return found && !isOwnAddress(found, socket) ? found : undefined;
  };
}

/** The runtime keeps the descriptor in its handle and documents it nowhere; this file alone relies on it. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd ?? -1;
}

/** An IPv4 peer on a dual-stack socket has IPv4 connection tracking. */
const isFour = (address: string) => !address.includes(":") || address.startsWith("::ffff:");

/** A `sockaddr_in` or `sockaddr_in6`: family in the machine's order, port and address in the network's. */
export function readSockAddr(value: Buffer): SocketAddress | undefined {
  const family = endianness() === "LE" ? value.readUInt16LE(0) : value.readUInt16BE(0);
  const port = value.readUInt16BE(2);
  const text =
    family === afInet
      ? [...value.subarray(4, 8)].join(".")
      : Array.from({ length: 8 }, (_, index) => value.readUInt16BE(8 + 2 * index).toString(16)).join(":");
  const ip = parseIp(text);
  return ip && { ip, port };
}

function isOwnAddress(found: SocketAddress, socket: Socket): boolean {
  return found.port === socket.localPort && found.ip === plainIp(socket.localAddress);
}

/** An address as the socket tells it, with IPv4 inside IPv6 made IPv4 again. */
export function plainIp(text: string | undefined) {
  if (text === undefined) return undefined;
  return parseIp(text.startsWith("::ffff:") && text.includes(".") ? text.slice(7) : text.replace(/%.*$/, ""));
}
