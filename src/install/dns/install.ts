import { type Clock, Failure } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import type { Ip } from "../../values/index.ts";
import { dnsService } from "../names.ts";
import { type Change, type InstallWish, installed, removed } from "./change.ts";
import { type ClusterDns, configMap, dataOf, findClusterDns, findMeshDns, type MeshDns } from "./cluster-dns.ts";
import { serverFile } from "./imports.ts";
import { baseline, type Loading, lookAt, waitLoaded } from "./loading.ts";
import { managerOf } from "./managers.ts";
import { writeRecord } from "./record.ts";
import { restart } from "./restart.ts";
import { formatPlace, type Target, type TargetWish, targetsOf, withObject } from "./targets.ts";
import { writeTarget } from "./write.ts";

export interface DnsDeps {
  readonly api: ObjectApi;
  readonly clock: Clock;
  readonly random: () => number;
  /** Of the mesh, where its DNS Service is. */
  readonly namespace: string;
}

export interface DnsInstallWish extends TargetWish, Omit<InstallWish, "ips"> {
  /** Instead of the Service's. */
  readonly ips: readonly Ip[] | undefined;
  readonly dryRun: boolean;
  /** Start the DNS's pods anew where they do not read their file again by themselves. */
  readonly restart: boolean;
  /** How long to wait until it is loaded, in milliseconds; 0: not at all. */
  readonly waitMs: number;
  readonly tell?: (loading: Loading) => void;
}

export interface Written {
  readonly target: Target;
  readonly change: Change;
  readonly wrote: boolean;
  /** Undefined when nobody looked. */
  readonly loading: Loading | undefined;
}

export interface DnsResult {
  readonly found: ClusterDns;
  readonly ips: readonly Ip[];
  readonly written: readonly Written[];
  readonly warnings: readonly string[];
}

/** Makes the cluster's DNS ask the mesh's for its domains. Nothing is written unless all of it can be. */
export async function installClusterDns(wish: DnsInstallWish, deps: DnsDeps): Promise<DnsResult> {
  const { api } = deps;
  const found = await findClusterDns(api);
  const targets = targetsOf(found, wish);
  const mesh = wish.ips ? undefined : await meshDns(deps);
  const ips = wish.ips ?? mesh?.ips ?? [];
  const wanted: InstallWish = { ...wish, ips };
  const warnings = warningsOf({ found, targets, mesh, wish });
  const planned = targets.map((target) => ({ target, change: installed(target, found.configMaps, wanted) }));
  mustBeFree(planned);
  if (wish.dryRun) {
    const written = planned.map((plan) => ({ ...plan, wrote: false, loading: undefined }));
    return { found, ips, written, warnings };
  }
  const written: Written[] = [];
  for (const { target } of planned) {
    const before = await baseline(api, target, found.configMaps);
    const decide = (object: KubeObject | undefined) => {
      const change = installed(target, withObject(found.configMaps, target.place.configMap, object), wanted);
      mustBeFree([{ target, change }]);
      return change;
    };
    const { change, wrote } = await writeTarget(target, decide, deps);
    written.push({ target, change, wrote, loading: undefined });
    await writeRecord(api, deps.namespace, (record) => {
      const key = keyOf(target);
      return { ...record, [key]: [...new Set([...(record[key] ?? []), ...wish.domains])] };
    });
    if (wrote || wish.waitMs > 0) {
      const loading = await settle(target, { found, before, wrote, wish, deps });
      written[written.length - 1] = { target, change, wrote, loading };
    }
  }
  return { found, ips, written, warnings };
}

async function settle(
  target: Target,
  given: {
    readonly found: ClusterDns;
    readonly before: Awaited<ReturnType<typeof baseline>>;
    readonly wrote: boolean;
    readonly wish: Pick<DnsInstallWish, "restart" | "waitMs" | "tell">;
    readonly deps: DnsDeps;
  },
): Promise<Loading> {
  const { found, before, wrote, wish, deps } = given;
  const { api, clock } = deps;
  const now = await configMap(api, target.place.configMap, target.place.namespace);
  const configMaps = withObject(found.configMaps, target.place.configMap, now);
  const look = () => lookAt(api, target, configMaps, wrote ? before : new Map());
  const first = await look();
  if (first.kind === "restart" && wish.restart && wrote) {
    await restart(target.workload, { api, clock, waitMs: Math.max(wish.waitMs, 60_000) });
    return { kind: "unknown", why: "its pods were started anew, and read their file then" };
  }
  if (wish.waitMs === 0) return first;
  return await waitLoaded(look, { clock, ms: wish.waitMs, ...(wish.tell ? { tell: wish.tell } : {}) });
}

/** The Service of the mesh's DNS. Throws `clusterdns/no-service`. */
async function meshDns({ api, namespace }: DnsDeps): Promise<MeshDns> {
  const mesh = await findMeshDns(api, namespace);
  if (mesh) return mesh;
  throw new Failure("clusterdns/no-service", `there is no Service ${namespace}/${dnsService}`, {
    hint: "install the mesh first, or name the addresses of its DNS with --ip",
  });
}

/** Throws `clusterdns/zone-taken`, with all that is in the way. */
function mustBeFree(plans: ReadonlyArray<{ readonly target: Target; readonly change: Change }>): void {
  const taken = plans.flatMap(({ target, change }) =>
    change.taken.filter(({ same }) => !same).map((one) => ({ target, ...one })),
  );
  if (taken.length === 0) return;
  const line = ({ target, domain, text, stuck }: (typeof taken)[number]) =>
    `  "${domain}" in ${formatPlace(target.place)}: ${text}${stuck === undefined ? "" : ` (${stuck})`}`;
  const canReplace = taken.every(({ stuck }) => stuck === undefined);
  throw new Failure("clusterdns/zone-taken", `somebody else forwards it already:\n${taken.map(line).join("\n")}`, {
    hint: canReplace
      ? "--replace takes its place, and `isthmus dns remove` puts it back"
      : "take the domain out there by hand; nothing was written",
  });
}

function warningsOf(given: {
  readonly found: ClusterDns;
  readonly targets: readonly Target[];
  readonly mesh: MeshDns | undefined;
  readonly wish: DnsInstallWish;
}): readonly string[] {
  const { found, targets, mesh, wish } = given;
  const warnings: string[] = [];
  if (mesh && mesh.ready === 0) {
    warnings.push(`the Service ${dnsService} has no ready endpoint: names of the mesh give SERVFAIL until it has`);
  }
  for (const { place } of targets) {
    const manager = managerOf(found.configMaps.get(place.configMap));
    if (!manager) continue;
    warnings.push(
      `${formatPlace(place)} belongs to ${manager.name} (${manager.evidence}), who may put it back: ${manager.mend}`,
    );
  }
  if (found.nodeLocal && !wish.nodeLocal) {
    const { name } = found.nodeLocal;
    warnings.push(
      `the cache on each node (DaemonSet ${name}) answers pods first and knows nothing of this: say --node-local as well`,
    );
  }
  return warnings;
}

export function keyOf({ place }: Pick<Target, "place">): string {
  return `${place.namespace}/${place.configMap}/${place.key}`;
}

/** Every text in which something of ours may stand, whatever was installed by which version. */
export function everyTarget(found: ClusterDns): readonly Target[] {
  const form = { form: "coredns-after-1.4.0", version: undefined } as const;
  const targets: Target[] = [];
  for (const [workload, whose] of [
    [found.workload, "dns"],
    [found.nodeLocal, "node-local"],
  ] as const) {
    if (!workload?.corefile) continue;
    targets.push({ kind: "corefile", place: workload.corefile, whose, workload, ...form });
    const main = dataOf(found.configMaps.get(workload.corefile.configMap))[workload.corefile.key];
    const file = main === undefined ? undefined : serverFile(main, workload);
    if (file && whose === "dns") targets.push({ kind: "server-file", ...file, whose, workload, ...form });
  }
  const place = { namespace: found.workload.namespace, configMap: "kube-dns", key: "stubDomains" };
  targets.push({ kind: "stub-domains", place, whose: "dns", workload: found.workload });
  return targets;
}

export interface DnsRemoveWish {
  /** Undefined: all that is ours. */
  readonly domains: readonly string[] | undefined;
  readonly dryRun: boolean;
  readonly restart: boolean;
  readonly waitMs: number;
  readonly tell?: (loading: Loading) => void;
}

/** Takes out what is ours and nothing else; a second time there is nothing to do. */
export async function removeClusterDns(wish: DnsRemoveWish, deps: DnsDeps): Promise<DnsResult> {
  const { api } = deps;
  const found = await findClusterDns(api);
  const written: Written[] = [];
  for (const target of everyTarget(found)) {
    const decide = (object: KubeObject | undefined) =>
      removed(target, withObject(found.configMaps, target.place.configMap, object), wish.domains);
    const planned = decide(found.configMaps.get(target.place.configMap));
    if (wish.dryRun || planned.before === undefined) {
      if (planned.before !== planned.after) written.push({ target, change: planned, wrote: false, loading: undefined });
      continue;
    }
    const before = planned.before === planned.after ? new Map() : await baseline(api, target, found.configMaps);
    const { change, wrote } = await writeTarget(target, decide, deps);
    if (!wrote) continue;
    written.push({ target, change, wrote, loading: await settle(target, { found, before, wrote, wish, deps }) });
  }
  if (!wish.dryRun) {
    const { domains } = wish;
    await writeRecord(api, deps.namespace, (record) =>
      Object.fromEntries(
        Object.entries(record).map(([key, list]) => [key, domains ? list.filter((one) => !domains.includes(one)) : []]),
      ),
    );
  }
  return { found, ips: [], written, warnings: [] };
}
