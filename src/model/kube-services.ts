import type { EndpointSlice, Service as KubeService, Node } from "../resources/index.ts";
import {
  type Hostname,
  type Ip,
  type Locality,
  nowhere,
  parseHostname,
  parseIp,
  protocolOfServicePort,
  spiffeId,
} from "../values/index.ts";
import type { MeshSettings, Workload } from "./mesh.ts";
import type { Endpoint, Service, ServicePort } from "./service.ts";
import { visibilityOf } from "./visibility.ts";

/** The label by which a workload says that a sidecar stands in front of it. */
export const tlsModeLabel = "security.istio.io/tlsMode";

/** `networking.istio.io/exportTo` on a Service: the same words as in `exportTo`, between commas. */
const exportToAnnotation = "networking.istio.io/exportTo";

export function hostnameOfService(
  name: string,
  namespace: string,
  settings: Pick<MeshSettings, "clusterDomain">,
): Hostname | undefined {
  return parseHostname(`${name}.${namespace}.svc.${settings.clusterDomain}`);
}

const topology = {
  region: "topology.kubernetes.io/region",
  zone: "topology.kubernetes.io/zone",
  subzone: "topology.istio.io/subzone",
};
const localities = new WeakMap<Node, Locality>();

/** Where a machine stands, from its labels. */
export function localityOf(machine: Node | undefined): Locality {
  if (!machine) return nowhere;
  let locality = localities.get(machine);
  if (!locality) {
    const { labels } = machine.metadata;
    const [region = "", zone = "", subzone = ""] = [
      labels[topology.region],
      labels[topology.zone],
      labels[topology.subzone],
    ];
    locality = region || zone || subzone ? Object.freeze({ region, zone, subzone }) : nowhere;
    localities.set(machine, locality);
  }
  return locality;
}

/** All that a Kubernetes Service is made from. */
export interface KubeServiceParts {
  readonly service: KubeService;
  readonly slices: readonly EndpointSlice[];
  /** Workload by `namespace/name`, machine by name. */
  readonly workload: (key: string) => Workload | undefined;
  readonly machine: (name: string) => Node | undefined;
}

export function buildKubeService(parts: KubeServiceParts, settings: MeshSettings): Service | undefined {
  const { service } = parts;
  const { spec, metadata } = service;
  const hostname = hostnameOfService(metadata.name, metadata.namespace, settings);
  if (!hostname) return undefined;
  const headless = spec.clusterIP === "None";
  const external = spec.type === "ExternalName";
  const alias = external ? parseHostname(spec.externalName ?? "") : undefined;
  const addresses = new Set<Ip>();
  if (!headless && !external) {
    for (const written of [spec.clusterIP ?? "", ...spec.clusterIPs]) {
      const ip = parseIp(written);
      if (ip) addresses.add(ip);
    }
  }
  const ports = spec.ports.map(
    (port): ServicePort =>
      Object.freeze({
        name: port.name,
        number: port.port,
        targetPort: typeof port.targetPort === "number" ? port.targetPort : port.port,
        protocol: protocolOfServicePort(port),
      }),
  );
  const exportTo = metadata.annotations[exportToAnnotation];
  return Object.freeze({
    hostname,
    registry: "kubernetes",
    name: metadata.name,
    namespace: metadata.namespace,
    location: external ? "external" : "internal",
    resolution: external ? "dns" : headless ? "passthrough" : "told",
    addresses: Object.freeze([...addresses]),
    namedByAddress: true,
    ranges: Object.freeze([]),
    headless,
    alias,
    ports: Object.freeze(ports),
    endpoints: Object.freeze(alias ? aliasEndpoints(alias, ports) : endpointsOf(parts, settings)),
    egress: undefined,
    subjectAltNames: Object.freeze([]),
    selector: Object.keys(spec.selector).length > 0 ? spec.selector : undefined,
    visibility: exportTo
      ? visibilityOf(
          exportTo.split(",").map((to) => to.trim()),
          metadata.namespace,
        )
      : "everyone",
    created: metadata.creationTimestamp ?? 0,
    origins: Object.freeze([service.origin]),
  } satisfies Service);
}

function aliasEndpoints(alias: Hostname, ports: readonly ServicePort[]): Endpoint[] {
  return [
    Object.freeze({
      address: alias,
      ports: Object.freeze(Object.fromEntries(ports.map((port) => [port.number, port.targetPort]))),
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
  ];
}

function endpointsOf({ service, slices, workload, machine }: KubeServiceParts, settings: MeshSettings): Endpoint[] {
  const { spec, metadata } = service;
  const endpoints = new Map<string, Endpoint>();
  for (const slice of slices) {
    if (slice.addressType === "FQDN") continue;
    const ports: Record<number, number> = {};
    for (const port of spec.ports) {
      if (port.protocol === "UDP") continue;
      const found = slice.ports.find((one) => one.name === port.name && one.protocol === port.protocol);
      const target = found?.port ?? (typeof port.targetPort === "number" ? port.targetPort : undefined);
      if (found && target !== undefined) ports[port.port] = target;
    }
    const shared = Object.freeze(ports);
    for (const one of slice.endpoints) {
      // Ready is what counts; a Service may ask for those that are not. One that is ending takes nothing new.
      if (!spec.publishNotReadyAddresses && (one.conditions.ready === false || one.conditions.terminating === true))
        continue;
      const pod =
        one.targetRef?.name !== undefined && (one.targetRef.kind ?? "Pod") === "Pod"
          ? `${one.targetRef.namespace ?? metadata.namespace}/${one.targetRef.name}`
          : "";
      const behind = pod ? workload(pod) : undefined;
      for (const written of one.addresses) {
        const address = parseIp(written);
        if (!address) continue;
        const key = `${address} ${pod}`;
        const known = endpoints.get(key);
        endpoints.set(
          key,
          Object.freeze({
            address,
            ports: known ? Object.freeze({ ...known.ports, ...shared }) : shared,
            labels: behind?.labels ?? {},
            weight: 1,
            locality:
              behind && behind.locality !== nowhere
                ? behind.locality
                : zoneOf(one.zone, localityOf(one.nodeName ? machine(one.nodeName) : undefined)),
            network: "",
            identity: behind
              ? spiffeId({
                  trustDomain: settings.trustDomain,
                  namespace: behind.namespace,
                  serviceAccount: behind.serviceAccount,
                })
              : undefined,
            mutualTls: behind?.labels[tlsModeLabel] === "istio",
            workload: pod,
            hostname: one.hostname ?? "",
            egress: false,
          }),
        );
      }
    }
  }
  return [...endpoints.values()].sort((a, b) =>
    a.address < b.address ? -1 : a.address > b.address ? 1 : a.workload < b.workload ? -1 : 1,
  );
}

/** The slice's own word for the zone counts where the machine says nothing. */
function zoneOf(zone: string | undefined, locality: Locality): Locality {
  return zone && !locality.zone ? Object.freeze({ ...locality, zone }) : locality;
}
