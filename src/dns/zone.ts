import { type Hostname, type Ip, ipFamily, isWildcard } from "../values/index.ts";

/**
 * How long others may keep an answer, in seconds. Long enough for a cache in front of us to be of use, short enough for
 * a name that was taken away to be forgotten soon. Proxies and workloads ask us directly and see a change at once.
 */
export const positiveTtl = 30;

/** How long others may keep a no, in seconds: a name that is asked for before it is made is found soon after. */
export const negativeTtl = 5;

/** What a name answers. A name may be a wildcard: `*.bar.global`. */
export interface ZoneName {
  readonly name: Hostname;
  readonly addresses: readonly Ip[];
  /** Named ports, which make SRV records `_<name>._<transport>.<host>`. */
  readonly ports?: readonly ZonePort[];
}

export interface ZonePort {
  readonly name: string;
  readonly transport: "tcp" | "udp";
  readonly port: number;
}

/** The types that a zone tells apart. `SVCB` stands for `HTTPS` as well; all that is not named here is `other`. */
export type RecordType = "A" | "AAAA" | "SRV" | "PTR" | "SOA" | "NS" | "CNAME" | "SVCB" | "ANY" | "other";

/** Records of one type. One object lives as long as its zone, so that its encoding can be kept beside it. */
export type RecordSet =
  | { readonly type: "A" | "AAAA"; readonly addresses: readonly Ip[] }
  | { readonly type: "SRV"; readonly target: Hostname; readonly ports: readonly ZonePort[] }
  | { readonly type: "PTR"; readonly target: Hostname }
  | { readonly type: "SOA" }
  | { readonly type: "NS" };

/** What is said to a question. `authority` is the name that the SOA of a negative answer belongs to. */
export type Answer =
  | { readonly kind: "records"; readonly set: RecordSet; readonly alias?: Hostname }
  | { readonly kind: "no-data"; readonly authority: string; readonly alias?: Hostname } // The name is ours, without a record of this type: NOERROR, empty.
  | { readonly kind: "no-name"; readonly authority: string } // The name would be ours and is not there: NXDOMAIN.
  | { readonly kind: "not-yet" } // The name would be ours, but not all names are known yet: SERVFAIL, so that it is asked again.
  | { readonly kind: "not-ours" }; // Ask the next server.

/** Everything that the mesh answers at one moment. Frozen; made by `buildZone`. Keys are lower case, without a last dot. */
export interface Zone {
  readonly suffixes: readonly Hostname[];
  readonly searches: readonly string[];
  readonly serial: number;
  readonly complete: boolean;
  readonly exact: ReadonlyMap<string, NameRecords>;
  /** By what follows the star: `bar.global` for `*.bar.global`. */
  readonly wildcards: ReadonlyMap<string, NameRecords>;
  /** Names without records of their own above names that have some (RFC 8020 §2: they exist). */
  readonly parents: ReadonlySet<string>;
}

/** The records of one name, by type. */
export interface NameRecords {
  readonly name: string;
  readonly sets: { readonly [T in RecordType]?: RecordSet };
}

export interface ZoneOptions {
  readonly names: Iterable<ZoneName>;
  /** Whatever ends in one of these is ours, also when it is not there. */
  readonly suffixes: readonly Hostname[];
  /**
   * Search domains of the workloads that ask. `httpbin.bar.global.foo.svc.cluster.local` is answered as an alias of
   * `httpbin.bar.global`, which saves a resolver with `ndots:5` the other domains of its list.
   */
  readonly searches?: readonly string[];
  /** Goes up with each zone that others may compare. */
  readonly serial?: number;
  /** False until all names were told: absent names are then not denied, but to be asked for again. */
  readonly complete?: boolean;
}

export function buildZone({ names, suffixes, searches = [], serial = 1, complete = true }: ZoneOptions): Zone {
  const exact = new Map<string, NameRecords>();
  const wildcards = new Map<string, NameRecords>();
  for (const named of names) {
    if (isWildcard(named.name)) {
      wildcards.set(named.name.slice(2), recordsOf(named));
      continue;
    }
    exact.set(named.name, recordsOf(named));
    const { services, reverse } = besideOf(named);
    for (const records of services) exact.set(records.name, records);
    // One address, one name back: the first that has it.
    for (const records of reverse) if (!exact.has(records.name)) exact.set(records.name, records);
  }
  const parents = new Set<string>();
  for (const name of exact.keys()) addParents({ parents, suffixes, name: above(name) });
  for (const name of wildcards.keys()) addParents({ parents, suffixes, name });
  const lowered = searches.map((domain) => domain.toLowerCase().replace(/\.$/, "")).filter(Boolean);
  return Object.freeze({ suffixes, searches: lowered, serial, complete, exact, wildcards, parents });
}

/** Adds `name` and what is above it, as far as that is ours. */
function addParents(given: {
  readonly parents: Set<string>;
  readonly suffixes: readonly string[];
  readonly name: string;
}): void {
  const { parents, suffixes } = given;
  for (let name = given.name; suffixOf(suffixes, name) !== undefined && !parents.has(name); name = above(name)) {
    parents.add(name);
  }
}

function above(name: string): string {
  const dot = name.indexOf(".");
  return dot < 0 ? "" : name.slice(dot + 1);
}

/** A zone that knows nothing yet: names under `suffixes` are to be asked for again, all others belong to someone else. */
export function emptyZone(suffixes: readonly Hostname[]): Zone {
  return buildZone({ names: [], suffixes, complete: false });
}

const recordsByName = new WeakMap<ZoneName, NameRecords>();

/** Remembered by identity: a name that did not change keeps its record sets, and with them their encoding. */
function recordsOf(named: ZoneName): NameRecords {
  let records = recordsByName.get(named);
  if (!records) {
    const a = named.addresses.filter((ip) => ipFamily(ip) === 4);
    const aaaa = named.addresses.filter((ip) => ipFamily(ip) === 6);
    records = {
      name: named.name,
      sets: {
        ...(a.length > 0 ? { A: { type: "A", addresses: a } } : {}),
        ...(aaaa.length > 0 ? { AAAA: { type: "AAAA", addresses: aaaa } } : {}),
      },
    };
    recordsByName.set(named, records);
  }
  return records;
}

interface Beside {
  readonly services: readonly NameRecords[];
  readonly reverse: readonly NameRecords[];
}

const besideByName = new WeakMap<ZoneName, Beside>();

/** What one name puts beside itself: its named ports, and the way back from its addresses. Remembered like its records. */
function besideOf(named: ZoneName): Beside {
  let beside = besideByName.get(named);
  if (!beside) {
    const services = (named.ports ?? []).map((port): NameRecords => {
      const name = `_${port.name}._${port.transport}.${named.name}`.toLowerCase();
      return { name, sets: { SRV: { type: "SRV", target: named.name, ports: [port] } } };
    });
    const reverse = named.addresses.map(
      (ip): NameRecords => ({ name: reverseName(ip), sets: { PTR: { type: "PTR", target: named.name } } }),
    );
    beside = { services, reverse };
    besideByName.set(named, beside);
  }
  return beside;
}

const soa: RecordSet = { type: "SOA" };
const ns: RecordSet = { type: "NS" };
const notOurs: Answer = { kind: "not-ours" };
const notYet: Answer = { kind: "not-yet" };

/**
 * What `zone` says to a question. `name` is lower case without a last dot, in the text form of RFC 1035 §5.1 (a dot
 * inside a label is `\046`). The exact name comes first, then the nearest wildcard above it, at any depth.
 */
export function resolve(zone: Zone, name: string, type: RecordType): Answer {
  const found = zone.exact.get(name) ?? wildcardFor(zone, name);
  if (found) return answerFrom(zone, { found, name, type });
  const suffix = suffixOf(zone.suffixes, name);
  if (name === suffix) {
    if (type === "SOA") return { kind: "records", set: soa };
    if (type === "NS") return { kind: "records", set: ns };
    return { kind: "no-data", authority: suffix };
  }
  const alias = aliasFor(zone, name);
  if (alias) {
    const answer = answerFrom(zone, { found: alias.records, name: alias.name, type });
    if (answer.kind === "records" || answer.kind === "no-data") return { ...answer, alias: alias.name as Hostname };
  }
  if (suffix === undefined) return notOurs;
  if (zone.parents.has(name)) return { kind: "no-data", authority: suffix };
  return zone.complete ? { kind: "no-name", authority: suffix } : notYet;
}

function answerFrom(
  zone: Zone,
  { found, name, type }: { readonly found: NameRecords; readonly name: string; readonly type: RecordType },
): Answer {
  const set = found.sets[type];
  if (set) return { kind: "records", set };
  const suffix = suffixOf(zone.suffixes, name);
  if (suffix !== undefined) return { kind: "no-data", authority: suffix };
  // Outside our suffixes we speak for the addresses alone. SVCB and HTTPS records carry addresses too, which would lead
  // around the mesh.
  const hasAddresses = found.sets.A !== undefined || found.sets.AAAA !== undefined;
  const aboutAddresses = type === "A" || type === "AAAA" || type === "SVCB" || type === "ANY";
  const authority = found.name.startsWith("*.") ? found.name.slice(2) : found.name;
  return hasAddresses && aboutAddresses ? { kind: "no-data", authority } : notOurs;
}

function wildcardFor(zone: Zone, name: string): NameRecords | undefined {
  if (zone.wildcards.size === 0) return undefined;
  for (let dot = name.indexOf("."); dot > 0; dot = name.indexOf(".", dot + 1)) {
    const found = zone.wildcards.get(name.slice(dot + 1));
    if (found) return found;
  }
  return undefined;
}

/** The known name that `name` is with a search domain behind it. */
function aliasFor(zone: Zone, name: string): { readonly name: string; readonly records: NameRecords } | undefined {
  for (const domain of zone.searches) {
    if (name.length <= domain.length + 1 || !name.endsWith(domain)) continue;
    if (name[name.length - domain.length - 1] !== ".") continue;
    const rest = name.slice(0, -domain.length - 1);
    // An escaped byte is in no host name; only below a wildcard could such a name be found.
    if (rest.includes("\\")) continue;
    const records = zone.exact.get(rest) ?? wildcardFor(zone, rest);
    if (records) return { name: rest, records };
  }
  return undefined;
}

/** The longest of `suffixes` that `name` is or ends in. */
function suffixOf(suffixes: readonly string[], name: string): string | undefined {
  let best: string | undefined;
  for (const suffix of suffixes) {
    const under =
      name === suffix ||
      (name.length > suffix.length && name.endsWith(suffix) && name[name.length - suffix.length - 1] === ".");
    if (under && (best === undefined || suffix.length > best.length)) best = suffix;
  }
  return best;
}

/** The name whose PTR record tells who has `ip` (RFC 1035 §3.5, RFC 3596 §2.5). */
export function reverseName(ip: Ip): string {
  if (ipFamily(ip) === 4) return `${ip.split(".").reverse().join(".")}.in-addr.arpa`;
  return `${[...ipv6Bytes(ip)].reverse().map(nibbles).join(".")}.ip6.arpa`;
}

function nibbles(byte: number): string {
  return `${(byte & 15).toString(16)}.${(byte >> 4).toString(16)}`;
}

/** The sixteen bytes of an IPv6 address. */
export function ipv6Bytes(ip: Ip): Uint8Array {
  const [head = "", tail] = ip.split("::");
  const groups = (text: string) => (text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16)));
  const first = groups(head);
  const last = tail === undefined ? [] : groups(tail);
  const bytes = new Uint8Array(16);
  for (const [i, group] of first.entries()) put(bytes, i, group);
  for (const [i, group] of last.entries()) put(bytes, 8 - last.length + i, group);
  return bytes;
}

function put(bytes: Uint8Array, group: number, value: number): void {
  bytes[group * 2] = value >> 8;
  bytes[group * 2 + 1] = value & 255;
}
