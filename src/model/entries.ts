import type { EndpointAddress, ServiceEntry, WorkloadEntry, WorkloadEntrySpec } from "../resources/index.ts";
import {
  type Cidr,
  type Hostname,
  type Ip,
  ipFamily,
  isWildcard,
  type Labels,
  nowhere,
  parseSpiffeId,
  type SortedMap,
  type SpiffeId,
  virtualAddressProblem,
} from "../values/index.ts";
import type { Aged } from "./age.ts";
import { cached } from "./cached.ts";
import { behindEgress, type Leaving } from "./egress.ts";
import { tlsModeLabel } from "./kube-services.ts";
import type { MeshSettings, Workload } from "./mesh.ts";
import {
  type Endpoint,
  isGlobal,
  namespaceOfGlobal,
  type Resolution,
  type Service,
  type ServicePort,
} from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** A workload that an entry selects instead of listing endpoints. */
export type Selected =
  | { readonly kind: "entry"; readonly key: string; readonly entry: WorkloadEntry; readonly labels: Labels }
  | { readonly kind: "pod"; readonly key: string; readonly workload: Workload };

const resolutions: Readonly<Record<ServiceEntry["spec"]["resolution"], Resolution>> = {
  NONE: "passthrough",
  STATIC: "told",
  DNS: "dns",
  DNS_ROUND_ROBIN: "dns-round-robin",
  DYNAMIC_DNS: "dns",
};

/** The single addresses that an entry's author chose (those that may be virtual ones), and the ranges. */
export function addressesOf(entry: ServiceEntry): EntryAddresses {
  return cached(writtenAddresses, entry, () => readAddresses(entry));
}

export const nameOfEntry = ({ metadata }: ServiceEntry) => `${metadata.namespace}/${metadata.name}`;

export function agedEntry({ metadata }: ServiceEntry): Aged {
  return { created: metadata.creationTimestamp ?? 0, namespace: metadata.namespace, name: metadata.name };
}

interface EntryAddresses {
  readonly single: readonly Ip[];
  readonly ranges: readonly Cidr[];
}

const writtenAddresses = new WeakMap<ServiceEntry, EntryAddresses>();

function readAddresses(entry: ServiceEntry): EntryAddresses {
  const single: Ip[] = [];
  const ranges: Cidr[] = [];
  for (const cidr of entry.spec.addresses) {
    if (cidr.prefix !== (ipFamily(cidr.ip) === 4 ? 32 : 128)) ranges.push(cidr);
    else if (!virtualAddressProblem(cidr.ip) && !single.includes(cidr.ip)) single.push(cidr.ip);
  }
  return { single, ranges };
}

/** A ServiceEntry's label with the value `false`: its hosts get no automatic address. Any other value is as good as none. */
export const allocationLabel = "networking.istio.io/enable-autoallocate-ip";

/**
 * Whether the mesh gives this host an address of its own: it has none, calls go to endpoints that the mesh picks, and its
 * author does not say no.
 */
export function wantsAddress({ spec, metadata }: ServiceEntry, host: Hostname): boolean {
  if (metadata.labels[allocationLabel] === "false") return false;
  return spec.addresses.length === 0 && spec.resolution !== "NONE" && !isWildcard(host);
}

/** One service per host of the entry; they share everything but name, and addresses where those were given. */
export function buildEntryService(
  entry: ServiceEntry,
  parts: {
    readonly host: Hostname;
    readonly addresses: readonly Ip[];
    readonly ranges: readonly Cidr[];
    readonly selected: readonly Selected[];
    /** The egress gateway that it has to do with, and the cluster's own services by `namespace/name`. */
    readonly leaving: Leaving | undefined;
    readonly services: SortedMap<string, Service>;
    readonly settings: MeshSettings;
  },
): Service {
  const { host, addresses, ranges, selected, leaving, services, settings } = parts;
  const { spec, metadata } = entry;
  const ports = spec.ports.map(
    (port): ServicePort =>
      Object.freeze({
        name: port.name,
        number: port.number,
        targetPort: port.targetPort ?? port.number,
        protocol: port.protocol,
      }),
  );
  const identity = (account: string) => identityOf(account, host, metadata.namespace, settings);
  const endpoints: Endpoint[] = [];
  const add = (one: WorkloadEntrySpec, labels: Labels, workload: string): void => {
    if (!one.address) return;
    endpoints.push(
      Object.freeze({
        address: textOf(one.address),
        ports: portsOf(ports, one.ports),
        labels,
        weight: one.weight,
        locality: one.locality ?? nowhere,
        network: one.network,
        identity: identity(one.serviceAccount),
        // A selected workload with an account has a sidecar, unless its label says otherwise.
        mutualTls:
          labels[tlsModeLabel] === undefined
            ? workload !== "" && one.serviceAccount !== ""
            : labels[tlsModeLabel] === "istio",
        workload,
        hostname: "",
        egress: false,
      }),
    );
  };
  for (const one of spec.endpoints) add(one, one.labels, "");
  for (const one of selected) {
    if (one.kind === "entry") {
      add(one.entry.spec, one.labels, one.key);
      continue;
    }
    for (const ip of one.workload.ips.slice(0, 1)) {
      endpoints.push(
        Object.freeze({
          address: ip,
          ports: portsOf(ports, {}),
          labels: one.workload.labels,
          weight: 1,
          locality: one.workload.locality,
          network: "",
          identity: parseSpiffeId(
            `spiffe://${settings.trustDomain}/ns/${one.workload.namespace}/sa/${one.workload.serviceAccount}`,
          ),
          mutualTls: one.workload.labels[tlsModeLabel] === "istio",
          workload: one.key,
          hostname: "",
          egress: false,
        }),
      );
    }
  }
  const resolution = resolutions[spec.resolution];
  // A name that is resolved by DNS and lists nobody is its own endpoint.
  if (resolution.startsWith("dns") && spec.endpoints.length === 0 && !spec.workloadSelector && !isWildcard(host))
    endpoints.push(
      Object.freeze({
        address: host,
        ports: portsOf(ports, {}),
        labels: {},
        weight: 1,
        locality: nowhere,
        network: "",
        identity: undefined,
        mutualTls: false,
        workload: "",
        hostname: "",
        egress: false,
      }),
    );
  const answering = leaving
    ? behindEgress(endpoints, { leaving, ports, services, settings })
    : { endpoints, egress: undefined };
  return Object.freeze({
    hostname: host,
    registry: "entry",
    name: metadata.name,
    namespace: metadata.namespace,
    location: spec.location === "MESH_INTERNAL" ? "internal" : "external",
    resolution,
    addresses: Object.freeze([...addresses]),
    namedByAddress: spec.addresses.length === 0 || spec.hosts[0] === host,
    ranges: Object.freeze([...ranges]),
    headless: false,
    alias: undefined,
    ports: Object.freeze(ports),
    endpoints: Object.freeze(answering.endpoints),
    egress: answering.egress,
    subjectAltNames: spec.subjectAltNames,
    selector: spec.workloadSelector?.labels,
    visibility: visibilityOf(spec.exportTo, metadata.namespace),
    created: metadata.creationTimestamp ?? 0,
    origins: Object.freeze([entry.origin]),
  } satisfies Service);
}

function textOf(address: EndpointAddress): string {
  switch (address.kind) {
    case "ip":
      return address.ip;
    case "hostname":
      return address.hostname;
    case "unix":
      return `unix://${address.path}`;
  }
}

/** The endpoint's own port where it names one, else the service's target port. */
function portsOf(
  ports: readonly ServicePort[],
  mapped: Readonly<Record<string, number>>,
): Readonly<Record<number, number>> {
  const result: Record<number, number> = {};
  for (const port of ports)
    if (port.protocol !== "udp")
      result[port.number] = Object.hasOwn(mapped, port.name) ? mapped[port.name]! : port.targetPort;
  return Object.freeze(result);
}

/** In another cluster the account is of the namespace that the name says; else of the entry's own. */
function identityOf(account: string, host: Hostname, namespace: string, settings: MeshSettings): SpiffeId | undefined {
  if (account === "") return undefined;
  if (account.startsWith("spiffe://")) return parseSpiffeId(account);
  const owner = isGlobal(host) ? (namespaceOfGlobal(host) ?? namespace) : namespace;
  return parseSpiffeId(`spiffe://${settings.trustDomain}/ns/${owner}/sa/${account}`);
}
