import { type Hostname, SortedMap } from "../values/index.ts";
import { type Finding, finding } from "./finding.ts";
import { noLists, regrouped } from "./regrouped.ts";
import type { Service } from "./service.ts";
import { settle } from "./settle.ts";

/** One service a host, and what is known of the hosts of which there is more to say. */
export interface MergedServices {
  /** Everything that was declared for a host. */
  readonly declared: SortedMap<Hostname, readonly Service[]>;
  readonly services: SortedMap<Hostname, Service>;
  readonly contested: SortedMap<Hostname, readonly Service[]>;
  readonly restricted: SortedMap<Hostname, Service>;
  readonly aliases: SortedMap<Hostname, Service>;
  /** By `namespace/host`, those of contested hosts too. */
  readonly owned: SortedMap<string, Service>;
}

export const nothingMerged: MergedServices = {
  declared: noLists(),
  services: SortedMap.empty(),
  contested: SortedMap.empty(),
  restricted: SortedMap.empty(),
  aliases: SortedMap.empty(),
  owned: SortedMap.empty(),
};

/** Settles the hosts of services that went or came. */
export function nextServices(
  before: MergedServices,
  news: { readonly left: readonly Service[]; readonly joined: readonly Service[] },
): {
  readonly merged: MergedServices;
  readonly touched: ReadonlySet<Hostname>;
  readonly findings: ReadonlyMap<Hostname, readonly Finding[]>;
} {
  const byHost = (service: Service) => [service.hostname, service] as const;
  const { lists: declared, touched } = regrouped(before.declared, {
    left: news.left.map(byHost),
    joined: news.joined.map(byHost),
  });
  const services = new Map<Hostname, Service | undefined>();
  const contested = new Map<Hostname, readonly Service[] | undefined>();
  const owned = new Map<string, Service | undefined>();
  const findings = new Map<Hostname, readonly Finding[]>();
  for (const host of touched) {
    for (const one of seenOf(before, host)) owned.set(`${one.namespace}/${host}`, undefined);
    const { kept, lost } = settle(declared.get(host) ?? []);
    services.set(host, kept.find((one) => one.visibility === "everyone") ?? kept[0]);
    contested.set(host, kept.length > 1 ? Object.freeze(kept) : undefined);
    for (const one of kept) owned.set(`${one.namespace}/${host}`, one);
    findings.set(
      host,
      lost.map((one) => conflict(host, one, kept[0]!)),
    );
  }
  const only = (wanted: (service: Service) => boolean) =>
    [...services].map(([host, one]) => [host, one && wanted(one) ? one : undefined] as const);
  return {
    merged: {
      declared,
      services: before.services.with(services),
      contested: before.contested.with(contested),
      restricted: before.restricted.with(only((one) => one.visibility !== "everyone")),
      aliases: before.aliases.with(only((one) => one.alias !== undefined)),
      owned: before.owned.with(owned),
    },
    touched,
    findings,
  };
}

function seenOf({ services, contested }: MergedServices, host: Hostname): readonly Service[] {
  const service = services.get(host);
  return contested.get(host) ?? (service ? [service] : []);
}

function conflict(host: Hostname, lost: Service, winner: Service): Finding {
  return finding("mesh/host-conflict", {
    origin: lost.origins[0]!,
    message: `"${host}" is declared by ${winner.registry === "entry" ? "ServiceEntry" : "Service"} "${winner.namespace}/${winner.name}" already, which is kept`,
    hint: "declare a host once, or keep one of them to its own namespace with exportTo",
  });
}
