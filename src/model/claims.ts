import type { ServiceEntry } from "../resources/index.ts";
import { type Change, type Ip, SortedMap } from "../values/index.ts";
import { byAge } from "./age.ts";
import { addressesOf, agedEntry, nameOfEntry } from "./entries.ts";
import { type Finding, finding } from "./finding.ts";
import { noLists, regrouped } from "./regrouped.ts";
import type { Service } from "./service.ts";

/** Who wants which address, and who has it. */
export interface ClaimStage {
  readonly services: SortedMap<Ip, readonly Service[]>;
  readonly entries: SortedMap<Ip, readonly ServiceEntry[]>;
  readonly owner: SortedMap<Ip, Claimant>;
}

type Claimant =
  | { readonly kind: "Service"; readonly name: string }
  | { readonly kind: "ServiceEntry"; readonly name: string; readonly entry: ServiceEntry };

export const noClaims: ClaimStage = { services: noLists(), entries: noLists(), owner: SortedMap.empty() };

/** Settles the addresses that the news is about: the cluster's own first, then entries from old to young. Nobody shares. */
export function nextClaims(
  before: ClaimStage,
  news: {
    readonly services: ReadonlyArray<Change<string, Service>>;
    readonly entries: ReadonlyArray<Change<string, ServiceEntry>>;
  },
): {
  readonly stage: ClaimStage;
  readonly touched: ReadonlySet<Ip>;
  readonly findings: ReadonlyMap<Ip, readonly Finding[]>;
} {
  const ofService = (service: Service | undefined) => (service?.addresses ?? []).map((ip) => [ip, service!] as const);
  const ofEntry = (entry: ServiceEntry | undefined) =>
    entry ? addressesOf(entry).single.map((ip) => [ip, entry] as const) : [];
  const services = regrouped(before.services, {
    left: news.services.flatMap((one) => ofService(one.before)),
    joined: news.services.flatMap((one) => ofService(one.after)),
  });
  const entries = regrouped(before.entries, {
    left: news.entries.flatMap((one) => ofEntry(one.before)),
    joined: news.entries.flatMap((one) => ofEntry(one.after)),
  });
  const touched = new Set([...services.touched, ...entries.touched]);
  const owners = new Map<Ip, Claimant | undefined>();
  const findings = new Map<Ip, readonly Finding[]>();
  for (const ip of touched) {
    const { owner, lost } = settleAddress(services.lists.get(ip) ?? [], entries.lists.get(ip) ?? []);
    owners.set(ip, owner);
    findings.set(
      ip,
      lost.map((entry) => conflict(ip, entry, owner!)),
    );
  }
  return {
    stage: { services: services.lists, entries: entries.lists, owner: before.owner.with(owners) },
    touched,
    findings,
  };
}

function settleAddress(
  services: readonly Service[],
  entries: readonly ServiceEntry[],
): { readonly owner: Claimant | undefined; readonly lost: readonly ServiceEntry[] } {
  const [service] = services.length > 1 ? [...services].sort(byAge) : services;
  let owner: Claimant | undefined = service && { kind: "Service", name: `${service.namespace}/${service.name}` };
  const sorted = entries.length > 1 ? [...entries].sort((a, b) => byAge(agedEntry(a), agedEntry(b))) : entries;
  const lost: ServiceEntry[] = [];
  for (const entry of sorted) {
    if (!owner) owner = { kind: "ServiceEntry", name: nameOfEntry(entry), entry };
    else if (!holds(owner, entry)) lost.push(entry);
  }
  return { owner, lost };
}

/** One host declared by several objects is one service with one address; which of them wins is another question. */
export function holds(holder: Claimant | undefined, entry: ServiceEntry): boolean {
  if (holder?.kind !== "ServiceEntry") return false;
  return holder.entry === entry || holder.entry.spec.hosts[0] === entry.spec.hosts[0];
}

function conflict(ip: Ip, entry: ServiceEntry, holder: Claimant): Finding {
  return finding("mesh/address-conflict", {
    severity: "error",
    origin: entry.origin,
    message: `address "${ip}" is not given to ${entry.spec.hosts.map((host) => `"${host}"`).join(", ")}: ${holder.kind} "${holder.name}" has it already`,
    hint: "give every entry an address of its own, or none: then it gets one by itself",
  });
}
