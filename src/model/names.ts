import { changesBetween, type Hostname, type Ip, parseHostname, parseIp } from "../values/index.ts";
import { cached } from "./cached.ts";
import type { Mesh } from "./mesh.ts";
import { type Service, visibleTo } from "./service.ts";

/** A port of a name, for those who ask for it by name. */
export interface NamedPort {
  readonly name: string;
  readonly transport: "tcp" | "udp";
  readonly port: number;
}

/** What a name answers. The name may be a wildcard. Frozen; the same object as long as its service is. */
export interface NameRecord {
  readonly name: Hostname;
  readonly addresses: readonly Ip[];
  readonly ports: readonly NamedPort[];
  readonly service: Service;
}

const made = new WeakMap<Service, readonly NameRecord[]>();

/**
 * The names of the mesh and what they answer: services by their virtual addresses, headless ones by their endpoints,
 * each of those endpoints by its own name too. With a namespace only what its workloads may see, and of a contested
 * host what they see. A name without an address is left out: somebody else's DNS may know it.
 */
export function namesFor(mesh: Mesh, namespace?: string): readonly NameRecord[] {
  const records: NameRecord[] = [];
  for (const [host, general] of mesh.services) {
    const service = namespace === undefined ? general : seenFrom(mesh, host, namespace, general);
    if (!service) continue;
    for (const one of namesOf(mesh, service)) records.push(one);
  }
  return records;
}

/** The names of one service of the mesh. */
export function namesOf(mesh: Mesh, service: Service): readonly NameRecord[] {
  return service.alias ? aliased(mesh, service, service.alias) : cached(made, service, () => recordsOf(service));
}

/** Hosts whose names may answer something else in one mesh than in the other, for anybody. */
export function namesChanged(before: Mesh, after: Mesh): ReadonlySet<Hostname> {
  const hosts = new Set<Hostname>();
  for (const { key } of changesBetween(before.services, after.services)) hosts.add(key);
  for (const { aliases } of [before, after])
    for (const [host, { alias }] of aliases) if (alias && hosts.has(alias)) hosts.add(host);
  for (const { key } of changesBetween(before.contested, after.contested)) hosts.add(key);
  return hosts;
}

function seenFrom(mesh: Mesh, host: Hostname, namespace: string, general: Service): Service | undefined {
  const all = mesh.contested.get(host);
  if (!all) return visibleTo(general.visibility, namespace) ? general : undefined;
  const seen = all.filter((one) => visibleTo(one.visibility, namespace));
  return seen.find((one) => one.namespace === namespace) ?? seen[0];
}

function recordsOf(service: Service): readonly NameRecord[] {
  const ports = Object.freeze(
    service.ports.map(
      (port): NamedPort =>
        Object.freeze({ name: port.name, transport: port.protocol === "udp" ? "udp" : "tcp", port: port.number }),
    ),
  );
  const record = (name: Hostname, addresses: readonly Ip[]): NameRecord =>
    Object.freeze({ name, addresses: Object.freeze([...addresses]), ports, service });
  if (!service.headless) return service.addresses.length > 0 ? [record(service.hostname, service.addresses)] : [];
  const ips: Ip[] = [];
  const byName = new Map<Hostname, Ip[]>();
  for (const endpoint of service.endpoints) {
    const ip = parseIp(endpoint.address);
    if (!ip) continue;
    ips.push(ip);
    const name = endpoint.hostname ? parseHostname(`${endpoint.hostname}.${service.hostname}`) : undefined;
    if (name) cached(byName, name, () => []).push(ip);
  }
  if (ips.length === 0) return [];
  return [record(service.hostname, ips), ...[...byName].map(([name, own]) => record(name, own))];
}

/** A name for another one answers what that one does, if it is one of ours. */
function aliased(mesh: Mesh, service: Service, alias: Hostname): readonly NameRecord[] {
  const target = mesh.services.get(alias);
  if (!target || target.alias || target.addresses.length === 0) return [];
  return [Object.freeze({ name: service.hostname, addresses: target.addresses, ports: [], service })];
}
