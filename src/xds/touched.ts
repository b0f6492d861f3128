import { changedRuleHosts, isGlobal, type Mesh, routesHost, type Service, targetsOf } from "../model/index.ts";
import { changesBetween, covers, type Hostname, isWildcard, parseIp, type SortedMap } from "../values/index.ts";

/** What the clients of one namespace see of a mesh. */
export interface Seen {
  readonly mesh: Mesh;
  readonly services: SortedMap<Hostname, Service>;
}

/**
 * The hosts of which something may be different for clients of a namespace: those whose services, rules or routes
 * changed, those whose routes lead to such hosts, and those whose short names others took or gave back.
 */
export function touchedHosts(before: Seen, now: Seen, namespace: string): ReadonlySet<Hostname> {
  const touched = new Set<Hostname>();
  const { clusterDomain } = now.mesh.settings;
  for (const { key, before: old, after } of changesBetween(before.services, now.services)) {
    touched.add(key);
    if (old && after) continue;
    for (const host of rivals(key, { clusterDomain, namespace })) touched.add(host);
  }
  const patterns = new Set<string>(changedRuleHosts(before.mesh.rules, now.mesh.rules));
  addCovered(touched, patterns, now.services);
  addCovered(touched, routedHosts(before, now, touched), now.services);
  return touched;
}

/** Hosts whose short or local name a host is, and the one that is its twin in other clusters. */
function rivals(
  host: Hostname,
  { clusterDomain, namespace }: { readonly clusterDomain: string; readonly namespace: string },
): readonly Hostname[] {
  const name = host.startsWith("*.") ? host.slice(2) : host;
  const local = `.svc.${clusterDomain}`;
  const rest = clusterDomain.slice(clusterDomain.indexOf(".") + 1);
  const names = [
    `${name}${local}`,
    `${name}.${clusterDomain}`,
    `${name}.${rest}`,
    `${name}.${namespace}${local}`,
    `${name}.global`,
    ...(name.endsWith(local) ? [`${name.slice(0, -local.length)}.global`] : []),
    ...(isGlobal(name) ? [`${name.slice(0, -".global".length)}${local}`] : []),
  ];
  return names as Hostname[];
}

/** What VirtualServices are written for that changed, or that lead to a host that did. */
function routedHosts({ mesh: before }: Seen, { mesh }: Seen, touched: ReadonlySet<Hostname>): ReadonlySet<string> {
  const patterns = new Set<string>();
  const add = (hosts: readonly string[]) => {
    for (const host of hosts) patterns.add(host);
  };
  if (before.virtualServices !== mesh.virtualServices) {
    const [old, now] = [new Set(before.virtualServices), new Set(mesh.virtualServices)];
    for (const one of old) if (!now.has(one)) add(one.hosts);
    for (const one of now) if (!old.has(one)) add(one.hosts);
  }
  for (const one of mesh.virtualServices)
    if (targetsOf(one, mesh).some(({ host }) => touched.has(host))) add(one.hosts);
  return patterns;
}

/** Adds the hosts that patterns name: exactly, by a wildcard, or by an address of theirs. */
function addCovered(hosts: Set<Hostname>, patterns: ReadonlySet<string>, services: Seen["services"]): void {
  const wide: string[] = [];
  for (const pattern of patterns) {
    if (pattern === "*" || isWildcard(pattern as Hostname) || parseIp(pattern)) wide.push(pattern);
    else hosts.add(pattern as Hostname);
  }
  if (wide.length === 0) return;
  services.forEach((service, host) => {
    const named = (pattern: string) =>
      routesHost(pattern as Hostname, host) ||
      covers(pattern as Hostname, host) ||
      service.addresses.some((ip) => ip === pattern);
    if (wide.some(named)) hosts.add(host);
  });
}
