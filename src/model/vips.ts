import { createHash } from "node:crypto";
import { type Hostname, type Ip, ipv4FromNumber, ipv4ToNumber, parseIp } from "../values/index.ts";

/** Automatic addresses are of 240.240.0.0/16: never routed, never a user's by accident. */
const first = ipv4ToNumber(parseIp("240.240.0.1")!);
/** The range without its first and last address. */
export const automaticAddresses = 65_534;

/** Whether it is one that a mesh gives by itself. */
export function isAutomatic(ip: Ip): boolean {
  const number = ipv4ToNumber(ip);
  return number !== undefined && number >= first && number < first + automaticAddresses;
}

/**
 * Gives an address to each host that has none: the one that its name hashes to, or the next free one on a walk that its
 * name decides too. So the same names get the same addresses after a restart and elsewhere, and who else comes or goes
 * moves nobody, as long as two names do not meet.
 */
export function allocate(options: {
  /** In the order in which they may choose. */
  readonly hosts: readonly Hostname[];
  /** Automatic addresses that others have. */
  readonly taken: { readonly size: number; has(ip: Ip): boolean };
  /** Addresses that people wrote down: never given away. */
  readonly reserved: { has(ip: Ip): boolean };
  /** How many there are; fewer in a test. */
  readonly size?: number;
}): { readonly given: ReadonlyMap<Hostname, Ip>; readonly without: readonly Hostname[] } {
  const { hosts, taken, reserved, size = automaticAddresses } = options;
  const given = new Map<Hostname, Ip>();
  const now = new Set<Ip>();
  const without: Hostname[] = [];
  for (const host of hosts) {
    const free = (one: Ip) => !now.has(one) && !taken.has(one) && !reserved.has(one);
    const ip = taken.size + now.size < size ? walk(host, size, free) : undefined;
    if (ip === undefined) {
      without.push(host);
      continue;
    }
    given.set(host, ip);
    now.add(ip);
  }
  return { given, without };
}

/** Visits every address once, from where the name says, in steps that the name says too. */
function walk(host: Hostname, size: number, free: (ip: Ip) => boolean): Ip | undefined {
  const hash = createHash("sha256").update(host).digest();
  let at = hash.readUInt32BE(0) % size;
  let step = 1 + (hash.readUInt32BE(4) % Math.max(1, size - 1));
  while (divisor(step, size) !== 1) step++;
  for (let tried = 0; tried < size; tried++) {
    const ip = ipv4FromNumber(first + at);
    if (free(ip)) return ip;
    at = (at + step) % size;
  }
  return undefined;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
