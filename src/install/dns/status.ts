import { Failure } from "../../base/index.ts";
import type { Ip } from "../../values/index.ts";
import { type InstallWish, installed, type Taken, undoOf } from "./change.ts";
import { type ClusterDns, dataOf, findClusterDns, findMeshDns, type MeshDns } from "./cluster-dns.ts";
import { type DnsDeps, everyTarget, keyOf } from "./install.ts";
import { type Loading, lookAt } from "./loading.ts";
import { lastWriter } from "./managers.ts";
import { type DnsRecord, readRecord } from "./record.ts";
import { regionsOf } from "./regions.ts";
import { type Target, type TargetWish, targetsOf } from "./targets.ts";

/** How one domain stands in one text. */
export type DomainState =
  | { readonly kind: "right"; readonly line: number | undefined }
  /** Somebody else made it, and it says the same. */
  | { readonly kind: "by-hand"; readonly text: string }
  /** Ours, and it says something else than is wanted now. */
  | { readonly kind: "stale"; readonly servers: readonly string[] }
  | { readonly kind: "taken"; readonly taken: Taken }
  /** It was installed, and is there no more. */
  | { readonly kind: "reverted"; readonly by: string; readonly time: string }
  | { readonly kind: "absent" }
  /** Ours, and nobody is there to ask. */
  | { readonly kind: "orphaned"; readonly servers: readonly string[] }
  | { readonly kind: "broken"; readonly failure: Failure };

export interface TargetStatus {
  readonly target: Target;
  readonly domains: ReadonlyArray<{ readonly domain: string; readonly state: DomainState }>;
  readonly loading: Loading | undefined;
}

export interface DnsStatus {
  readonly found: ClusterDns;
  readonly mesh: MeshDns | undefined;
  /** What the domains are to be forwarded to; empty when nobody knows. */
  readonly ips: readonly Ip[];
  readonly targets: readonly TargetStatus[];
  readonly good: boolean;
}

export async function statusOfClusterDns(
  wish: Omit<TargetWish, "nodeLocal"> & {
    readonly domains: readonly string[] | undefined;
    readonly ips: readonly Ip[] | undefined;
  },
  deps: DnsDeps,
): Promise<DnsStatus> {
  const { api } = deps;
  const [found, mesh, record] = await Promise.all([
    findClusterDns(api),
    findMeshDns(api, deps.namespace),
    readRecord(api, deps.namespace),
  ]);
  const ips = wish.ips ?? mesh?.ips ?? [];
  const domains = wish.domains ?? knownDomains(found, record);
  const targets = await Promise.all(
    targetsOf(found, { ...wish, nodeLocal: true }).map(async (target): Promise<TargetStatus> => {
      const states = domains.map((domain) => ({ domain, state: stateOf(target, { found, domain, ips, record }) }));
      const ours = states.some(({ state }) => state.kind === "right" || state.kind === "by-hand");
      const loading = ours ? await lookAt(api, target, found.configMaps, new Map()) : undefined;
      return { target, domains: states, loading };
    }),
  );
  const good =
    (mesh === undefined ? wish.ips !== undefined : mesh.ready > 0 || wish.ips !== undefined) &&
    targets.every(
      ({ domains, loading }) =>
        domains.every(({ state }) => state.kind === "right" || state.kind === "by-hand") && loading?.kind !== "waiting",
    );
  return { found, mesh, ips, targets, good };
}

/** The domains that stand anywhere, or stood; `global` when none does. */
function knownDomains(found: ClusterDns, record: DnsRecord): readonly string[] {
  const domains = new Set(Object.values(record).flat());
  for (const target of everyTarget(found)) for (const domain of oursIn(target, found)) domains.add(domain);
  return domains.size > 0 ? [...domains].sort() : ["global"];
}

function oursIn(target: Target, { configMaps }: ClusterDns): readonly string[] {
  const object = configMaps.get(target.place.configMap);
  if (target.kind === "stub-domains") return Object.keys(undoOf(object)?.domains ?? {});
  return regionsOf(dataOf(object)[target.place.key] ?? "").map(({ domain }) => domain);
}

function stateOf(
  target: Target,
  given: {
    readonly found: ClusterDns;
    readonly domain: string;
    readonly ips: readonly Ip[];
    readonly record: DnsRecord;
  },
): DomainState {
  const { found, domain, ips, record } = given;
  const object = found.configMaps.get(target.place.configMap);
  const text = dataOf(object)[target.place.key] ?? "";
  const ours = oursIn(target, found).includes(domain);
  if (ips.length === 0) return ours ? { kind: "orphaned", servers: serversIn(text, domain) } : { kind: "absent" };
  const wish: InstallWish = { domains: [domain], ips, replace: false, complete: false, force: true };
  try {
    const { before, after, taken } = installed(target, found.configMaps, wish);
    const [other] = taken;
    if (other) return other.same ? { kind: "by-hand", text: other.text } : { kind: "taken", taken: other };
    if (before === after)
      return { kind: "right", line: regionsOf(text).find((region) => region.domain === domain)?.line };
  } catch (caught) {
    return { kind: "broken", failure: Failure.from(caught) };
  }
  if (ours) return { kind: "stale", servers: serversIn(text, domain) };
  if (!record[keyOf(target)]?.includes(domain)) return { kind: "absent" };
  const writer = lastWriter(object);
  return { kind: "reverted", by: writer?.manager ?? "somebody", time: writer?.time ?? "at an unknown time" };
}

/** The servers that our block or member asks, as they are written. */
function serversIn(text: string, domain: string): readonly string[] {
  const region = regionsOf(text).find((one) => one.domain === domain);
  if (region) {
    const [, servers = ""] = /^\s*(?:forward|proxy) \. (.*)$/m.exec(text.slice(region.start, region.end)) ?? [];
    return servers.split(/\s+/).filter(Boolean);
  }
  try {
    const servers = (JSON.parse(text) as Record<string, unknown>)[domain];
    return Array.isArray(servers) ? servers.map(String) : [];
  } catch {
    return [];
  }
}
