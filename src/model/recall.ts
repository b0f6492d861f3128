import type { ServiceEntry } from "../resources/index.ts";
import { type Hostname, type Ip, parseIp, type SortedMap } from "../values/index.ts";
import { byAge } from "./age.ts";
import { agedEntry } from "./entries.ts";
import { isAutomatic } from "./vips.ts";

type Wanting = SortedMap<Hostname, readonly ServiceEntry[]>;

/**
 * Gives hosts back what their entries' status says that they were given before. An address that somebody wrote down is
 * his; of two that were given one address, the older keeps it. Who loses it is `evicted`.
 */
export function recall(options: {
  readonly hosts: readonly Hostname[];
  readonly wanting: Wanting;
  readonly given: SortedMap<Hostname, Ip>;
  readonly holders: SortedMap<Ip, Hostname>;
  readonly reserved: { has(ip: Ip): boolean };
}): {
  readonly given: SortedMap<Hostname, Ip>;
  readonly holders: SortedMap<Ip, Hostname>;
  readonly evicted: readonly Hostname[];
} {
  const { wanting, reserved } = options;
  const given = new Map<Hostname, Ip | undefined>();
  const holders = new Map<Ip, Hostname | undefined>();
  const evicted: Hostname[] = [];
  const ipOf = (host: Hostname) => (given.has(host) ? given.get(host) : options.given.get(host));
  const holderOf = (ip: Ip) => (holders.has(ip) ? holders.get(ip) : options.holders.get(ip));
  const release = (host: Hostname) => {
    const ip = ipOf(host);
    if (ip === undefined) return;
    given.set(host, undefined);
    holders.set(ip, undefined);
  };
  const remembered = options.hosts.flatMap((host) => {
    const ip = rememberedOf(wanting, host);
    return ip === undefined || reserved.has(ip) || ipOf(host) === ip ? [] : [{ host, ip }];
  });
  const ranked = remembered.sort((a, b) => byAge(agedBy(wanting, a), agedBy(wanting, b)));
  for (const { host, ip } of ranked) {
    const rival = holderOf(ip);
    if (rival !== undefined && rival !== host) {
      const entitled = rememberedOf(wanting, rival) === ip;
      if (entitled && byAge(agedBy(wanting, { host: rival, ip }), agedBy(wanting, { host, ip })) <= 0) continue;
      release(rival);
      evicted.push(rival);
    }
    release(host);
    given.set(host, ip);
    holders.set(ip, host);
  }
  return { given: options.given.with(given), holders: options.holders.with(holders), evicted };
}

/** What the oldest entry that remembers one says; of those that a mesh gives by itself. */
function rememberedOf(wanting: Wanting, host: Hostname): Ip | undefined {
  return rememberer(wanting, host)?.ip;
}

function rememberer(wanting: Wanting, host: Hostname): { readonly entry: ServiceEntry; readonly ip: Ip } | undefined {
  const entries = wanting.get(host) ?? [];
  const sorted = entries.length > 1 ? [...entries].sort((a, b) => byAge(agedEntry(a), agedEntry(b))) : entries;
  for (const entry of sorted) {
    for (const { host: named, value } of entry.status?.addresses ?? []) {
      const ip = named === host ? parseIp(value) : undefined;
      if (ip !== undefined && isAutomatic(ip)) return { entry, ip };
    }
  }
  return undefined;
}

function agedBy(wanting: Wanting, { host }: { readonly host: Hostname; readonly ip: Ip }) {
  return agedEntry(rememberer(wanting, host)!.entry);
}
