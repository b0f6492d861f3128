import { InvalidArgumentError } from "commander";
import { type AdminAddress, Failure } from "../base/index.ts";
import {
  isPortNumber,
  parseHostname,
  parseIp,
  parseSocketAddress,
  parseSpiffeId,
  type SocketAddress,
  type SpiffeId,
} from "../values/index.ts";

// Texts of options to values. A wrong one is a `Failure` of `usage/…` that names the option.

/** `IP` or `IP:PORT`. Throws `usage/address`. */
export function socketAddress(text: string, port: number, option: string): SocketAddress {
  const ip = parseIp(text);
  const address = ip ? { ip, port } : parseSocketAddress(text);
  if (!address) {
    throw new Failure("usage/address", `${option}: "${text}" is neither an IP nor IP:PORT`, {
      hint: "write 127.0.0.1, 127.0.0.1:15012 or [::1]:15012",
    });
  }
  return address;
}

/** `unix:PATH` or `IP:PORT`. Throws `usage/address`. */
export function adminAddress(text: string, option: string): AdminAddress {
  if (text.startsWith("unix:") && text.length > 5) return { path: text.slice(5) };
  const address = socketAddress(text, 15014, option);
  return { host: address.ip, port: address.port };
}

/** `HOST:PORT`, where the host is a name or an address. Throws `usage/address`. */
export function hostPort(text: string, option: string): string {
  const [, name, port] = /^(.+):(\d+)$/.exec(text) ?? [];
  const host = name !== undefined && (parseHostname(name) ?? parseSocketAddress(text)?.ip);
  if (host && isPortNumber(Number(port))) return text;
  throw new Failure("usage/address", `${option}: "${text}" is not HOST:PORT`, {
    hint: "write isthmus.isthmus-system.svc:15012 or 10.1.2.3:15012",
  });
}

/** Throws `usage/port`. */
export function portNumber(text: string, option: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!isPortNumber(port)) {
    throw new Failure("usage/port", `${option}: "${text}" is no port`, { hint: "write a number from 1 to 65535" });
  }
  return port;
}

/** The identity that three options make. Throws `usage/name`. */
export function identityOf(parts: {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}): SpiffeId {
  const { trustDomain, namespace, serviceAccount } = parts;
  const text = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
  const identity = parseSpiffeId(text);
  if (identity) return identity;
  throw new Failure("usage/name", `"${text}" cannot be an identity`, {
    hint: "check --trust-domain, and the names of namespace and service account",
  });
}

/** For commander: a whole number that is not negative. */
export function wholeNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number.");
}

/** How many workers a proxy has; 0 stands for one on each core. */
export function workersCount(text: string): number {
  const count = wholeNumber(text);
  if (count <= 1024) return count;
  throw new InvalidArgumentError("It must be from 0, which is one for each core, to 1024.");
}
