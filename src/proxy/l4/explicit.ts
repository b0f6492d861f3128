import type { Socket } from "node:net";
import { type Clock, explain } from "../../base/index.ts";
import { type Ip, parseIp } from "../../values/index.ts";
import { peek, takeBytes } from "./sniff.ts";
import type { Stop } from "./stop.ts";

/** Where an application that knows its proxy asks to be connected. `host` is a name or an address. */
export interface Wish {
  readonly host: string;
  readonly port: number;
}

/** What an application on the explicit port wants, from its first bytes. Pure. */
export type Opening =
  | { readonly kind: "more" }
  | { readonly kind: "socks"; readonly length: number; readonly noAuthentication: boolean }
  | { readonly kind: "connect"; readonly length: number; readonly wish: Wish }
  /** A request with a whole URL for its target: left to the HTTP proxy, byte for byte. */
  | { readonly kind: "http" }
  | { readonly kind: "wrong"; readonly reason: string };

const longestHead = 16 * 1024;

export function readOpening(bytes: Buffer): Opening {
  if (bytes.length === 0) return { kind: "more" };
  if (bytes[0] === 5) {
    // RFC 1928 §3: version, number of methods, methods; 0 is "no authentication".
    if (bytes.length < 2 || bytes.length < 2 + bytes[1]!) return { kind: "more" };
    const length = 2 + bytes[1]!;
    return { kind: "socks", length, noAuthentication: bytes.subarray(2, length).includes(0) };
  }
  if (bytes[0] === 4) return { kind: "wrong", reason: "SOCKS 4 is not spoken; use SOCKS 5" };
  const start = bytes.toString("latin1", 0, 8);
  if (!"CONNECT ".startsWith(start.slice(0, 8))) {
    return /^[A-Z]/.test(start)
      ? { kind: "http" }
      : { kind: "wrong", reason: "neither SOCKS 5 nor an HTTP proxy request" };
  }
  const head = bytes.toString("latin1", 0, longestHead);
  const end = head.indexOf("\r\n\r\n");
  if (end < 0)
    return bytes.length >= longestHead
      ? { kind: "wrong", reason: "the CONNECT request is too long" }
      : { kind: "more" };
  const line = head.slice(0, head.indexOf("\r\n"));
  const target = /^CONNECT (\S+) HTTP\/1\.[01]$/.exec(line)?.[1];
  const wish = target === undefined ? undefined : parseWish(target);
  return wish
    ? { kind: "connect", length: end + 4, wish }
    : { kind: "wrong", reason: `CONNECT asks for "${line.slice(8, 200)}", which is no host and port` };
}

/** `name:port`, `10.0.0.1:port`, `[2001:db8::1]:port`. */
export function parseWish(text: string): Wish | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (!match || host === undefined || host.length > 255 || port < 1 || port > 65535) return undefined;
  return { host: host.toLowerCase().replace(/\.$/, ""), port };
}

export type SocksRequest =
  | { readonly kind: "more" }
  | { readonly kind: "connect"; readonly length: number; readonly wish: Wish }
  | { readonly kind: "wrong"; readonly reply: number; readonly reason: string };

/** RFC 1928 §4: version, command, reserved, kind of address, address, port. */
export function readSocksRequest(bytes: Buffer): SocksRequest {
  if (bytes.length < 5) return { kind: "more" };
  if (bytes[0] !== 5 || bytes[2] !== 0) return { kind: "wrong", reply: 1, reason: "malformed SOCKS 5 request" };
  const size = bytes[3] === 1 ? 4 : bytes[3] === 4 ? 16 : bytes[3] === 3 ? 1 + bytes[4]! : 0;
  if (size === 0) return { kind: "wrong", reply: 8, reason: `SOCKS address type ${bytes[3]} is not known` };
  const length = 4 + size + 2;
  if (bytes.length < length) return { kind: "more" };
  if (bytes[1] !== 1)
    return { kind: "wrong", reply: 7, reason: `SOCKS command ${bytes[1]} is not known; only CONNECT is` };
  const address = bytes.subarray(4, 4 + size);
  const host =
    bytes[3] === 3
      ? address.toString("latin1", 1)
      : bytes[3] === 1
        ? [...address].join(".")
        : `[${Array.from({ length: 8 }, (_, index) => address.readUInt16BE(2 * index).toString(16)).join(":")}]`;
  const wish = parseWish(`${host}:${bytes.readUInt16BE(length - 2)}`);
  return wish ? { kind: "connect", length, wish } : { kind: "wrong", reply: 1, reason: "no such host and port" };
}

/** How a wish can be answered before any byte of it flows. */
export type Prepared =
  | { readonly kind: "go"; readonly ip: Ip }
  | { readonly kind: "no"; readonly socksReply: 2 | 4; readonly reason: string };

export type Opened =
  | { readonly kind: "tunnel"; readonly ip: Ip; readonly port: number }
  | { readonly kind: "http" }
  /** It was told why, where it could be told, and closed. */
  | { readonly kind: "closed"; readonly reason: string };

/** Time for an application to say what it wants. */
const openingMs = 10_000;

/** Listens to the wish of one application and agrees to it or says no. Never rejects. */
export async function openExplicit(
  socket: Socket,
  deps: {
    readonly clock: Clock;
    readonly signal: Stop;
    /** Finds out whether and where to the wish can be led. */
    readonly prepare: (wish: Wish) => Promise<Prepared>;
  },
): Promise<Opened> {
  const waiting = { socket, clock: deps.clock, signal: deps.signal, timeoutMs: openingMs };
  const closed = (reason: string): Opened => ({ kind: "closed", reason });
  const first = await peek({ ...waiting, decide: (bytes) => notMore(readOpening(bytes)) });
  if (first.kind !== "decided") return closed(first.kind === "timeout" ? "said nothing in time" : "closed early");
  const opening = first.value;
  switch (opening.kind) {
    case "http":
      return { kind: "http" };
    case "wrong":
      socket.end(plainReply(400, "Bad Request", opening.reason));
      return closed(opening.reason);
    case "connect": {
      takeBytes(socket, opening.length);
      const prepared = await safely(deps.prepare, opening.wish);
      if (prepared.kind === "no") {
        socket.end(plainReply(502, "Bad Gateway", prepared.reason));
        return closed(prepared.reason);
      }
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      return { kind: "tunnel", ip: prepared.ip, port: opening.wish.port };
    }
    case "socks": {
      takeBytes(socket, opening.length);
      if (!opening.noAuthentication) {
        socket.end(Buffer.from([5, 0xff]));
        return closed("the application insists on SOCKS authentication; there is none here");
      }
      socket.write(Buffer.from([5, 0]));
      const second = await peek({ ...waiting, decide: (bytes) => notMore(readSocksRequest(bytes)) });
      if (second.kind !== "decided") return closed("no SOCKS request came");
      const request = second.value;
      if (request.kind === "wrong") {
        socket.end(socksReply(request.reply));
        return closed(request.reason);
      }
      takeBytes(socket, request.length);
      const prepared = await safely(deps.prepare, request.wish);
      if (prepared.kind === "no") {
        socket.end(socksReply(prepared.socksReply));
        return closed(prepared.reason);
      }
      socket.write(socksReply(0));
      return { kind: "tunnel", ip: prepared.ip, port: request.wish.port };
    }
  }
}

function notMore<T extends { readonly kind: string }>(value: T): Exclude<T, { kind: "more" }> | undefined {
  return value.kind === "more" ? undefined : (value as Exclude<T, { kind: "more" }>);
}

async function safely(prepare: (wish: Wish) => Promise<Prepared>, wish: Wish): Promise<Prepared> {
  const ip = parseIp(wish.host);
  try {
    return await prepare(ip ? { ...wish, host: ip } : wish);
  } catch (caught) {
    return { kind: "no", socksReply: 4, reason: `"${wish.host}" is not resolved: ${explain(caught)}` };
  }
}

/** The bound address is not told: an application that asks for a connection has no use for it. */
const socksReply = (code: number) => Buffer.from([5, code, 0, 1, 0, 0, 0, 0, 0, 0]);

function plainReply(status: number, phrase: string, reason: string): string {
  const body = `${reason.replace(/[^\x20-\x7e]/g, "?")}\n`;
  return `HTTP/1.1 ${status} ${phrase}\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}
