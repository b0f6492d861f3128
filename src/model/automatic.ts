import type { ServiceEntry } from "../resources/index.ts";
import { type Change, type Hostname, type Ip, SortedMap } from "../values/index.ts";
import { byAge, compareText } from "./age.ts";
import type { ClaimStage } from "./claims.ts";
import { agedEntry, wantsAddress } from "./entries.ts";
import { type Finding, finding } from "./finding.ts";
import { recall } from "./recall.ts";
import { noLists, regrouped } from "./regrouped.ts";
import { allocate } from "./vips.ts";

/** The hosts that get an address by themselves: by whom they are declared, and what they have. */
export interface AutomaticStage {
  readonly wanting: SortedMap<Hostname, readonly ServiceEntry[]>;
  readonly given: SortedMap<Hostname, Ip>;
  readonly holders: SortedMap<Ip, Hostname>;
  readonly without: readonly Hostname[];
}

export const noAutomatic: AutomaticStage = {
  wanting: noLists(),
  given: SortedMap.empty(),
  holders: SortedMap.empty(),
  without: [],
};

/**
 * Gives addresses to hosts that are new, and to those whose automatic one somebody wrote down. What an entry's status
 * says was given before holds: so replicas agree, and a restart changes nothing.
 */
export function nextAutomatic(
  before: AutomaticStage,
  {
    entries,
    claims,
  }: {
    readonly entries: ReadonlyArray<Change<string, ServiceEntry>>;
    readonly claims: { readonly stage: ClaimStage; readonly touched: ReadonlySet<Ip> };
  },
): AutomaticStage {
  const wants = (entry: ServiceEntry | undefined) =>
    entry ? entry.spec.hosts.filter((host) => wantsAddress(entry, host)).map((host) => [host, entry] as const) : [];
  const { lists: wanting, touched } = regrouped(before.wanting, {
    left: entries.flatMap((one) => wants(one.before)),
    joined: entries.flatMap((one) => wants(one.after)),
  });
  const { owner } = claims.stage;
  // A stage that remembers addresses and nothing else has to be looked through whole.
  const gone = [...(before.wanting.size === 0 ? before.given.keys() : touched)].filter((host) => !wanting.has(host));
  const moved = [...claims.touched].flatMap((ip) => (owner.has(ip) ? (before.holders.get(ip) ?? []) : []));
  const freed = [...gone, ...moved];
  const { given, holders, evicted } = recall({
    hosts: [...touched].filter((host) => wanting.has(host)),
    wanting,
    given: before.given.with(freed.map((host) => [host, undefined])),
    holders: before.holders.with(freed.flatMap((host) => ipOf(before.given, host).map((ip) => [ip, undefined]))),
    reserved: owner,
  });
  const hosts = new Set(
    [...touched, ...moved, ...evicted, ...before.without].filter((host) => wanting.has(host) && !given.has(host)),
  );
  const waiting = [...hosts]
    .map((host) => ({ host, created: oldest(wanting, host).metadata.creationTimestamp ?? 0 }))
    .sort((a, b) => a.created - b.created || compareText(a.host, b.host))
    .map(({ host }) => host);
  const found = allocate({ hosts: waiting, taken: holders, reserved: owner });
  return {
    wanting,
    given: given.with(found.given),
    holders: holders.with([...found.given].map(([host, ip]) => [ip, host])),
    without: found.without,
  };
}

function ipOf(given: SortedMap<Hostname, Ip>, host: Hostname): readonly Ip[] {
  const ip = given.get(host);
  return ip === undefined ? [] : [ip];
}

export function oldest(wanting: AutomaticStage["wanting"], host: Hostname): ServiceEntry {
  const entries = wanting.get(host)!;
  return entries.length === 1 ? entries[0]! : [...entries].sort((a, b) => byAge(agedEntry(a), agedEntry(b)))[0]!;
}

/** Hosts for which no address was left. */
export function exhausted({ wanting, without }: AutomaticStage): readonly Finding[] {
  return without.map((host) =>
    finding("mesh/addresses-exhausted", {
      severity: "error",
      origin: oldest(wanting, host).origin,
      message: `"${host}" has no address, and all automatic ones are given away`,
      hint: "write addresses into the entry, or remove entries that are not needed",
    }),
  );
}
