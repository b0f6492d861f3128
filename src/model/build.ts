import type { EndpointSlice, Service as KubeService, Pod, ServiceEntry } from "../resources/index.ts";
import { type Hostname, type Ip, type Labels, selects } from "../values/index.ts";
import { byAge, compareText } from "./age.ts";
import { cached } from "./cached.ts";
import { checkMesh } from "./check.ts";
import { addressesOf, buildEntryService, type Selected, wantsAddress } from "./entries.ts";
import { type Finding, finding } from "./finding.ts";
import { buildGatewayServers } from "./gateways.ts";
import type { MeshInput } from "./input.ts";
import { buildKubeService } from "./kube-services.ts";
import type { Mesh, MeshSettings, Workload } from "./mesh.ts";
import { buildRuleBook } from "./rules.ts";
import type { Endpoint, Service, ServicePort } from "./service.ts";
import { allocate } from "./vips.ts";
import { buildVirtualServices } from "./virtual-services.ts";
import { workloadOf } from "./workloads.ts";

/** What a mesh was made from, kept beside it so that the next one does not begin at nothing. */
interface Stages {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly kube: ReadonlyMap<string, KubeRecord>;
  readonly entries: ReadonlyMap<string, EntryRecord>;
  readonly automatic: ReadonlyMap<Hostname, Ip>;
  readonly rules: ReturnType<typeof buildRuleBook>;
  readonly merged: Merged;
}

interface KubeRecord {
  readonly inputs: readonly unknown[];
  readonly service: Service | undefined;
}

interface EntryRecord {
  readonly inputs: readonly unknown[];
  readonly services: readonly Service[];
}

const stagesOf = new WeakMap<Mesh, Stages>();

/**
 * Resources to the mesh. Pure: the same resources give an equal mesh, in whatever order they stand; with the mesh
 * before at hand, what did not change is the same object and costs a look instead of the work. (Automatic addresses
 * are the one thing that remembers: a host keeps the one it had.)
 */
export function buildMesh(options: {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly previous?: Mesh | undefined;
}): Mesh {
  const { view, settings, previous } = options;
  const known = previous && stagesOf.get(previous);
  const before = known?.settings === settings ? known : undefined;
  const workloads = before?.view.Pod === view.Pod ? before.workloads : workloadsOf(view.Pod);
  const kube = buildKube({ view, settings, workloads, before });
  const claims = claimAddresses(view, kube);
  const wanting = hostsWantingAddress(view);
  const { given: automatic, without } = allocate({
    hosts: wanting.map(({ host }) => host),
    before: known?.automatic ?? new Map(),
    reserved: claims.owner,
  });
  const entries = buildEntries({ view, settings, workloads, before, claims, automatic });
  const rules =
    before?.view.DestinationRule === view.DestinationRule
      ? before.rules
      : buildRuleBook(view.DestinationRule.values(), settings);
  const merged = mergeServices(kube, entries, before?.merged);
  const virtualServices =
    before && previous && before.view.VirtualService === view.VirtualService
      ? previous.virtualServices
      : buildVirtualServices(view.VirtualService.values(), settings);
  const gateways =
    before && previous && before.view.Gateway === view.Gateway
      ? previous.gateways
      : buildGatewayServers(view.Gateway.values());
  const exhausted = without.map((host) =>
    finding("mesh/addresses-exhausted", {
      severity: "error",
      origin: wanting.find((one) => one.host === host)!.entry.origin,
      message: `"${host}" has no address, and all automatic ones are given away`,
      hint: "write addresses into the entry, or remove entries that are not needed",
    }),
  );
  const facts = {
    settings,
    services: merged.services,
    contested: merged.contested,
    rules: rules.book,
    virtualServices,
    gateways,
    workloads,
  };
  const findings = [...claims.findings, ...exhausted, ...rules.findings, ...merged.findings, ...checkMesh(facts, view)];
  const mesh: Mesh = Object.freeze({ ...facts, findings: Object.freeze(sortFindings(findings)) });
  stagesOf.set(mesh, { view, settings, workloads, kube, entries, automatic, rules, merged });
  return mesh;
}

function sortFindings(findings: Finding[]): Finding[] {
  const key = ({ origin, code, message }: Finding) =>
    `${origin.kind}/${origin.namespace}/${origin.name}/${code}/${message}`;
  return findings.length < 2 ? findings : findings.sort((a, b) => compareText(key(a), key(b)));
}

function workloadsOf(pods: ReadonlyMap<string, Pod>): ReadonlyMap<string, Workload> {
  const workloads = new Map<string, Workload>();
  for (const pod of pods.values()) {
    if (pod.status.phase === "Succeeded" || pod.status.phase === "Failed") continue;
    workloads.set(`${pod.metadata.namespace}/${pod.metadata.name}`, workloadOf(pod));
  }
  return workloads;
}

const sliceOwner = "kubernetes.io/service-name";

function slicesByService(slices: ReadonlyMap<string, EndpointSlice>): ReadonlyMap<string, readonly EndpointSlice[]> {
  const groups = new Map<string, EndpointSlice[]>();
  for (const slice of slices.values()) {
    const owner = slice.metadata.labels[sliceOwner];
    if (owner === undefined) continue;
    const key = `${slice.metadata.namespace}/${owner}`;
    const group = groups.get(key);
    if (group) group.push(slice);
    else groups.set(key, [slice]);
  }
  for (const group of groups.values())
    if (group.length > 1) group.sort((a, b) => compareText(a.metadata.name, b.metadata.name));
  return groups;
}

function buildKube(options: {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly before: Stages | undefined;
}): ReadonlyMap<string, KubeRecord> {
  const { view, settings, workloads, before } = options;
  const same = (kind: "Service" | "EndpointSlice" | "Pod" | "Node") => before?.view[kind] === view[kind];
  if (before && same("Service") && same("EndpointSlice") && same("Pod") && same("Node")) return before.kube;
  const slices = slicesByService(view.EndpointSlice);
  // Without machines at hand there is nothing to look up, and inputs stay as short as that.
  const machines = view.Node.size > 0;
  const machineByName = new Map([...view.Node.values()].map((node) => [node.metadata.name, node]));
  const records = new Map<string, KubeRecord>();
  for (const service of view.Service.values()) {
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    const own = slices.get(key) ?? noSlices;
    const inputs = kubeInputs(service, own, { workloads, machines: machines ? machineByName : undefined });
    const known = before?.kube.get(key);
    records.set(
      key,
      known && equalInputs(known.inputs, inputs)
        ? known
        : {
            inputs,
            service: buildKubeService(
              {
                service,
                slices: own,
                workload: (one) => workloads.get(one),
                machine: (name) => machineByName.get(name),
              },
              settings,
            ),
          },
    );
  }
  return records;
}

const noSlices: readonly EndpointSlice[] = [];

/** Everything that a Service was made from, object by object. */
function kubeInputs(
  service: KubeService,
  slices: readonly EndpointSlice[],
  found: {
    readonly workloads: ReadonlyMap<string, Workload>;
    readonly machines: ReadonlyMap<string, unknown> | undefined;
  },
): readonly unknown[] {
  const inputs: unknown[] = [service];
  for (const slice of slices) {
    inputs.push(slice);
    for (const endpoint of slice.endpoints) {
      if (endpoint.targetRef?.name !== undefined)
        inputs.push(
          found.workloads.get(
            `${endpoint.targetRef.namespace ?? service.metadata.namespace}/${endpoint.targetRef.name}`,
          ),
        );
      if (found.machines && endpoint.nodeName) inputs.push(found.machines.get(endpoint.nodeName));
    }
  }
  return inputs;
}

function equalInputs(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

interface Claims {
  readonly owner: ReadonlyMap<Ip, Claimant>;
  readonly findings: readonly Finding[];
}

type Claimant = {
  readonly kind: "Service" | "ServiceEntry";
  readonly name: string;
  readonly object: KubeService | ServiceEntry;
};

/** Who has which address: the cluster's own first, then entries from old to young. Nobody shares. */
function claimAddresses(view: MeshInput, kube: ReadonlyMap<string, KubeRecord>): Claims {
  const owner = new Map<Ip, Claimant>();
  const findings: Finding[] = [];
  for (const { service, inputs } of kube.values()) {
    if (!service) continue;
    for (const ip of service.addresses)
      owner.set(ip, {
        kind: "Service",
        name: `${service.namespace}/${service.name}`,
        object: inputs[0] as KubeService,
      });
  }
  const contested = new Map<Ip, ServiceEntry[]>();
  for (const entry of view.ServiceEntry.values()) {
    for (const ip of addressesOf(entry).single) {
      const others = contested.get(ip);
      if (others) others.push(entry);
      else contested.set(ip, [entry]);
    }
  }
  for (const [ip, entries] of contested) {
    if (entries.length > 1) entries.sort((a, b) => byAge(agedEntry(a), agedEntry(b)));
    for (const entry of entries) {
      const holder = owner.get(ip);
      if (!holder) owner.set(ip, { kind: "ServiceEntry", name: nameOf(entry), object: entry });
      // One host declared by several objects is one service with one address; which of them wins is another question.
      else if (holder.object.kind === "ServiceEntry" && holder.object.spec.hosts[0] === entry.spec.hosts[0]) continue;
      else
        findings.push(
          finding("mesh/address-conflict", {
            severity: "error",
            origin: entry.origin,
            message: `address "${ip}" is not given to ${entry.spec.hosts.map((host) => `"${host}"`).join(", ")}: ${holder.kind} "${holder.name}" has it already`,
            hint: "give every entry an address of its own, or none: then it gets one by itself",
          }),
        );
    }
  }
  return { owner, findings };
}

const nameOf = (entry: ServiceEntry) => `${entry.metadata.namespace}/${entry.metadata.name}`;

function agedEntry(entry: ServiceEntry) {
  return {
    created: entry.metadata.creationTimestamp ?? 0,
    namespace: entry.metadata.namespace,
    name: entry.metadata.name,
  };
}

function hostsWantingAddress(view: MeshInput): Array<{ readonly host: Hostname; readonly entry: ServiceEntry }> {
  const wanting = new Map<Hostname, ServiceEntry>();
  for (const entry of view.ServiceEntry.values()) {
    for (const host of entry.spec.hosts) {
      if (!wantsAddress(entry, host)) continue;
      const other = wanting.get(host);
      if (!other || byAge(agedEntry(entry), agedEntry(other)) < 0) wanting.set(host, entry);
    }
  }
  const list = [...wanting].map(([host, entry]) => ({ host, entry }));
  return list.sort((a, b) => agedEntry(a.entry).created - agedEntry(b.entry).created || compareText(a.host, b.host));
}

function buildEntries(options: {
  readonly view: MeshInput;
  readonly settings: MeshSettings;
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly before: Stages | undefined;
  readonly claims: Claims;
  readonly automatic: ReadonlyMap<Hostname, Ip>;
}): ReadonlyMap<string, EntryRecord> {
  const { view, settings, workloads, before, claims, automatic } = options;
  const records = new Map<string, EntryRecord>();
  for (const [key, entry] of view.ServiceEntry) {
    const { single, ranges } = addressesOf(entry);
    const own = single.filter((ip) => holds(claims.owner.get(ip), entry));
    const selected = entry.spec.workloadSelector
      ? selectedBy(entry, entry.spec.workloadSelector.labels, { view, workloads })
      : [];
    const given = entry.spec.hosts.map((host) => (wantsAddress(entry, host) ? automatic.get(host) : undefined));
    const inputs = [
      entry,
      ...own,
      ...given,
      ...selected.map((one) => (one.kind === "entry" ? one.spec : one.workload)),
    ];
    const known = before?.entries.get(key);
    if (known && equalInputs(known.inputs, inputs)) {
      records.set(key, known);
      continue;
    }
    const services = entry.spec.hosts.map((host, at) => {
      const ip = given[at];
      return buildEntryService(entry, { host, addresses: ip ? [ip] : own, ranges, selected, settings });
    });
    records.set(key, { inputs, services });
  }
  return records;
}

function holds(holder: Claimant | undefined, entry: ServiceEntry): boolean {
  if (holder?.object.kind !== "ServiceEntry") return false;
  return holder.object === entry || holder.object.spec.hosts[0] === entry.spec.hosts[0];
}

/** WorkloadEntries and Pods of the entry's namespace that carry the labels. No labels select nobody. */
function selectedBy(
  entry: ServiceEntry,
  labels: Labels,
  from: { readonly view: MeshInput; readonly workloads: ReadonlyMap<string, Workload> },
): readonly Selected[] {
  if (Object.keys(labels).length === 0) return [];
  const { namespace } = entry.metadata;
  const selected: Selected[] = [];
  for (const one of from.view.WorkloadEntry.values()) {
    const own = { ...one.metadata.labels, ...one.spec.labels };
    if (one.metadata.namespace === namespace && selects(labels, own))
      selected.push({ kind: "entry", key: `${namespace}/${one.metadata.name}`, spec: one.spec, labels: own });
  }
  for (const [key, workload] of from.workloads) {
    if (workload.namespace === namespace && workload.ips.length > 0 && selects(labels, workload.labels))
      selected.push({ kind: "pod", key, workload });
  }
  return selected.sort((a, b) => compareText(a.key, b.key));
}

interface Merged {
  readonly services: ReadonlyMap<Hostname, Service>;
  readonly contested: ReadonlyMap<Hostname, readonly Service[]>;
  readonly findings: readonly Finding[];
  readonly order: readonly Hostname[];
}

/** One service a host: which wins where several objects declare it, in order of host name. */
function mergeServices(
  kube: ReadonlyMap<string, KubeRecord>,
  entries: ReadonlyMap<string, EntryRecord>,
  before: Merged | undefined,
): Merged {
  const first = new Map<Hostname, Service>();
  const several = new Map<Hostname, Service[]>();
  const add = (service: Service): void => {
    const other = first.get(service.hostname);
    if (!other) {
      first.set(service.hostname, service);
      return;
    }
    const list = several.get(service.hostname);
    if (list) list.push(service);
    else several.set(service.hostname, [other, service]);
  };
  for (const { service } of kube.values()) if (service) add(service);
  for (const { services } of entries.values()) for (const service of services) add(service);
  const contested = new Map<Hostname, readonly Service[]>();
  const findings: Finding[] = [];
  for (const [host, list] of several) {
    const { kept, lost } = settle(list);
    for (const one of lost) {
      const winner = kept[0]!;
      findings.push(
        finding("mesh/host-conflict", {
          origin: one.origins[0]!,
          message: `"${host}" is declared by ${winner.registry === "entry" ? "ServiceEntry" : "Service"} "${winner.namespace}/${winner.name}" already, which is kept`,
          hint: "declare a host once, or keep one of them to its own namespace with exportTo",
        }),
      );
    }
    const general = kept.find((one) => one.visibility === "everyone") ?? kept[0]!;
    first.set(host, general);
    if (kept.length > 1) contested.set(host, Object.freeze(kept));
  }
  const order = ordered(first, before?.order);
  const services = new Map<Hostname, Service>();
  for (const host of order) services.set(host, first.get(host)!);
  return { services, contested, findings, order };
}

/** Sorting a list that is nearly sorted costs a look at each; so the order before is where to begin. */
function ordered(
  services: ReadonlyMap<Hostname, Service>,
  before: readonly Hostname[] | undefined,
): readonly Hostname[] {
  const known = new Set<Hostname>();
  const order: Hostname[] = [];
  for (const host of before ?? []) {
    if (!services.has(host)) continue;
    known.add(host);
    order.push(host);
  }
  if (before && order.length === services.size) return order.length === before.length ? before : order;
  for (const host of services.keys()) if (!known.has(host)) order.push(host);
  return order.sort(compareText);
}

const unions = new WeakMap<Service, Array<{ readonly list: readonly Service[]; readonly union: Service }>>();

/** Entries of one namespace for one host make one service together; else the older object wins, a Service before an entry. */
function settle(list: readonly Service[]): { readonly kept: readonly Service[]; readonly lost: readonly Service[] } {
  const byNamespace = new Map<string, Service[]>();
  const lost: Service[] = [];
  const sorted = [...list].sort((a, b) => a.created - b.created || compareText(b.registry, a.registry) || byAge(a, b));
  for (const service of sorted) {
    const own = byNamespace.get(service.namespace);
    if (!own) byNamespace.set(service.namespace, [service]);
    else if (
      own[0]!.registry === service.registry &&
      own[0]!.resolution === service.resolution &&
      own[0]!.location === service.location
    )
      own.push(service);
    else lost.push(service);
  }
  const united = [...byNamespace.values()].map(unite);
  const kept: Service[] = [];
  let general = false;
  for (const service of united) {
    // Two that everybody sees cannot both be; one that only some see may stand beside it.
    if (service.visibility === "everyone" && general) lost.push(service);
    else kept.push(service);
    if (service.visibility === "everyone") general = true;
  }
  return { kept, lost };
}

function unite(list: readonly Service[]): Service {
  const oldest = list[0]!;
  if (list.length === 1) return oldest;
  const memory = cached(unions, oldest, () => []);
  const known = memory.find((one) => equalInputs(one.list, list));
  if (known) return known.union;
  const ports = new Map<number, ServicePort>();
  const endpoints: Endpoint[] = [];
  for (const service of list) {
    for (const port of service.ports) if (!ports.has(port.number)) ports.set(port.number, port);
    endpoints.push(...service.endpoints);
  }
  const union: Service = Object.freeze({
    ...oldest,
    addresses: Object.freeze([...new Set(list.flatMap((one) => one.addresses))]),
    ranges: Object.freeze(list.flatMap((one) => one.ranges)),
    ports: Object.freeze([...ports.values()]),
    endpoints: Object.freeze(endpoints),
    subjectAltNames: Object.freeze([...new Set(list.flatMap((one) => one.subjectAltNames))]),
    origins: Object.freeze(list.flatMap((one) => one.origins)),
  });
  memory.length = Math.min(memory.length, 4);
  memory.unshift({ list, union });
  return union;
}
