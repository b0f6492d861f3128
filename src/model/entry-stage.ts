import { egressAnnotation, type Namespace, type ServiceEntry, type WorkloadEntry } from "../resources/index.ts";
import { type Change, type Hostname, type Ip, type Labels, SortedMap, selects } from "../values/index.ts";
import { compareText } from "./age.ts";
import type { AutomaticStage } from "./automatic.ts";
import { type ClaimStage, holds } from "./claims.ts";
import { type Leaving, leavingOf } from "./egress.ts";
import { addressesOf, buildEntryService, nameOfEntry, type Selected, wantsAddress } from "./entries.ts";
import { renamed } from "./kube-stage.ts";
import type { MeshSettings, Workload } from "./mesh.ts";
import { noLists, regrouped } from "./regrouped.ts";
import type { Service } from "./service.ts";

/** What one entry was made into, and all that it was made from. */
export interface EntryRecord {
  readonly inputs: readonly unknown[];
  readonly services: readonly Service[];
  readonly leaving: Leaving | undefined;
}

/** Entries and the services that they declare. Keys are `namespace/name`. */
export interface EntryStage {
  readonly entries: SortedMap<string, ServiceEntry>;
  /** Those of them that select workloads. */
  readonly selecting: SortedMap<string, ServiceEntry>;
  readonly workloadEntries: SortedMap<string, WorkloadEntry>;
  readonly namespaces: SortedMap<string, Namespace>;
  readonly records: SortedMap<string, EntryRecord>;
  /** By the Service of an egress gateway, the entries that have to do with it. */
  readonly leaving: SortedMap<string, readonly string[]>;
}

export const noEntries: EntryStage = {
  entries: SortedMap.empty(),
  selecting: SortedMap.empty(),
  workloadEntries: SortedMap.empty(),
  namespaces: SortedMap.empty(),
  records: SortedMap.empty(),
  leaving: noLists(),
};

/** Makes anew what the entries that the news may be about declare; what comes out the same stays the same object. */
export function nextEntries(
  before: EntryStage,
  options: {
    readonly news: {
      readonly entries: ReadonlyArray<Change<string, ServiceEntry>>;
      readonly workloadEntries: ReadonlyArray<Change<string, WorkloadEntry>>;
      readonly workloads: ReadonlyArray<Change<string, Workload>>;
      readonly addresses: ReadonlySet<Ip>;
      readonly automatic: ReadonlyArray<Change<Hostname, Ip>>;
      readonly namespaces: ReadonlyArray<Change<string, Namespace>>;
      readonly services: ReadonlyArray<Change<string, Service>>;
    };
    /** The cluster's own, by `namespace/name`. */
    readonly services: SortedMap<string, Service>;
    readonly workloads: SortedMap<string, Workload>;
    readonly claims: ClaimStage;
    readonly automatic: AutomaticStage;
    readonly settings: MeshSettings;
  },
): EntryStage {
  const { news, services, workloads, claims, automatic, settings } = options;
  const entries = renamed(before.entries, news.entries, nameOfEntry);
  const workloadEntries = renamed(
    before.workloadEntries,
    news.workloadEntries,
    ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  );
  const stale = new Set<string>();
  for (const { before: old, after } of news.entries)
    for (const one of [old, after]) if (one) stale.add(nameOfEntry(one));
  const selecting = before.selecting.with(
    [...stale].map((key) => {
      const entry = entries.get(key);
      return [key, entry?.spec.workloadSelector ? entry : undefined];
    }),
  );
  for (const ip of news.addresses) for (const entry of claims.entries.get(ip) ?? []) stale.add(nameOfEntry(entry));
  for (const { key: host } of news.automatic)
    for (const entry of automatic.wanting.get(host) ?? []) stale.add(nameOfEntry(entry));
  if (news.workloads.length > 0 || news.workloadEntries.length > 0) for (const key of selecting.keys()) stale.add(key);
  const namespaces = renamed(before.namespaces, news.namespaces, ({ metadata }) => metadata.name);
  for (const name of asksAnew(news.namespaces)) {
    const all = name === settings.systemNamespace;
    for (const [key] of all ? entries : entries.startingWith(`${name}/`)) stale.add(key);
  }
  for (const { key } of news.services) for (const entry of before.leaving.get(key) ?? []) stale.add(entry);
  const records = before.records.with(
    [...stale].map((key) => {
      const entry = entries.get(key);
      return [
        key,
        entry &&
          recordOf(entry, {
            selected: selectedBy(entry, { workloadEntries, workloads }),
            known: before.records.get(key),
            claims,
            automatic: automatic.given,
            leaving: leavingOf(entry, { namespaces, settings }),
            services,
            settings,
          }),
      ];
    }),
  );
  const gatewaysOf = (all: EntryStage["records"], key: string) =>
    (all.get(key)?.leaving?.watched ?? []).map((gateway) => [gateway, key] as const);
  const { lists: leaving } = regrouped(before.leaving, {
    left: [...stale].flatMap((key) => gatewaysOf(before.records, key)),
    joined: [...stale].flatMap((key) => gatewaysOf(records, key)),
  });
  return { entries, selecting, workloadEntries, namespaces, records, leaving };
}

/** Namespaces that say something else of egress gateways than before. */
function asksAnew(changes: ReadonlyArray<Change<string, Namespace>>): readonly string[] {
  const text = (one: Namespace | undefined) => one?.metadata.annotations[egressAnnotation];
  return changes
    .filter(({ before, after }) => text(before) !== text(after))
    .map(({ before, after }) => (after ?? before)!.metadata.name);
}

function recordOf(
  entry: ServiceEntry,
  parts: {
    readonly selected: readonly Selected[];
    readonly known: EntryRecord | undefined;
    readonly claims: ClaimStage;
    readonly automatic: SortedMap<Hostname, Ip>;
    readonly leaving: Leaving | undefined;
    readonly services: SortedMap<string, Service>;
    readonly settings: MeshSettings;
  },
): EntryRecord {
  const { selected, known, claims, automatic, leaving, services: declared, settings } = parts;
  const { single, ranges } = addressesOf(entry);
  const own = single.filter((ip) => holds(claims.owner.get(ip), entry));
  const given = entry.spec.hosts.map((host) => (wantsAddress(entry, host) ? automatic.get(host) : undefined));
  const inputs = [
    entry,
    ...own,
    ...given,
    ...selected.map((one) => (one.kind === "entry" ? one.entry : one.workload)),
    ...(leaving ? [leaving.by, leaving.gateway, ...leaving.watched.map((gateway) => declared.get(gateway))] : []),
  ];
  if (known && equalLists(known.inputs, inputs)) return known;
  const services = entry.spec.hosts.map((host, at) => {
    const ip = given[at];
    return buildEntryService(entry, {
      host,
      addresses: ip ? [ip] : own,
      ranges,
      selected,
      leaving,
      services: declared,
      settings,
    });
  });
  return { inputs, services, leaving };
}

/** Whether two lists hold the very same things. */
export function equalLists(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** WorkloadEntries and Pods of the entry's namespace that carry the labels. No labels select nobody. */
function selectedBy(
  entry: ServiceEntry,
  from: {
    readonly workloadEntries: SortedMap<string, WorkloadEntry>;
    readonly workloads: SortedMap<string, Workload>;
  },
): readonly Selected[] {
  const labels: Labels = entry.spec.workloadSelector?.labels ?? {};
  if (Object.keys(labels).length === 0) return [];
  const selected: Selected[] = [];
  const prefix = `${entry.metadata.namespace}/`;
  for (const [key, one] of from.workloadEntries.startingWith(prefix)) {
    const own = { ...one.metadata.labels, ...one.spec.labels };
    if (selects(labels, own)) selected.push({ kind: "entry", key, entry: one, labels: own });
  }
  for (const [key, workload] of from.workloads.startingWith(prefix))
    if (workload.ips.length > 0 && selects(labels, workload.labels)) selected.push({ kind: "pod", key, workload });
  return selected.sort((a, b) => compareText(a.key, b.key));
}
