import { type EgressWish, egressWish, type Namespace, type ServiceEntry } from "../resources/index.ts";
import type { SortedMap } from "../values/index.ts";
import type { MeshSettings } from "./mesh.ts";
import { type Egress, type Endpoint, isGlobal, type Service, type ServicePort } from "./service.ts";

/** The network that an egress gateway sees, and sidecars do not. */
const outside = "external";
/** Where gateways take mutual TLS that they pass on unopened. */
const passedOnPort = 15_443;
const ownName = "isthmus-egressgateway";
/** What the mesh's own egress gateway is called in manifests that people bring along, as `namespace/name`. */
const knownAs = "istio-system/istio-egressgateway";

/** The egress gateway that an entry has to do with, and the Services (`namespace/name`) that this depends on. */
export interface Leaving {
  readonly by: Egress["by"];
  readonly gateway: string;
  readonly watched: readonly string[];
}

/** What an entry, its namespace and the mesh's own namespace say of egress gateways. The nearest one counts. */
export function leavingOf(
  entry: ServiceEntry,
  { namespaces, settings }: { readonly namespaces: SortedMap<string, Namespace>; readonly settings: MeshSettings },
): Leaving | undefined {
  const own = `${settings.systemNamespace}/${ownName}`;
  const { endpoints } = entry.spec;
  const names = endpoints.flatMap(({ address }) => (address?.kind === "hostname" ? [address.hostname] : []));
  const brought = names.some((name) => name === hostOf(knownAs, settings));
  const asked = askedFor(entry, namespaces, settings);
  if (asked !== undefined) return { by: "annotation", gateway: asked, watched: brought ? [asked, knownAs] : [asked] };
  if (!brought && !names.some((name) => name === hostOf(own, settings)) && endpoints.every((one) => one.network === ""))
    return undefined;
  return { by: "endpoint", gateway: own, watched: brought ? [own, knownAs] : [own] };
}

/** `namespace/name` of the gateway's Service. A name without a namespace is of where it is written. */
function askedFor(
  entry: ServiceEntry,
  namespaces: SortedMap<string, Namespace>,
  { systemNamespace }: MeshSettings,
): string | undefined {
  const own = `${systemNamespace}/${ownName}`;
  const places = [entry.metadata.namespace, systemNamespace];
  const wishes: Array<readonly [string, EgressWish | undefined]> = [
    [entry.metadata.namespace, egressWish(entry.metadata.annotations)],
    ...places.map((name) => [name, egressWish(namespaces.get(name)?.metadata.annotations ?? {})] as const),
  ];
  const [from, wish] = wishes.find(([, one]) => one !== undefined) ?? [];
  if (from === undefined || wish === undefined || wish.by === "none" || !canLeave(entry)) return undefined;
  if (wish.by === "own" || (wish.name === ownName && wish.namespace === undefined)) return own;
  return `${wish.namespace ?? from}/${wish.name}`;
}

/** A wish for a whole namespace is for what a gateway can pass on: mutual TLS to other clusters. */
function canLeave({ spec }: ServiceEntry): boolean {
  return spec.location === "MESH_INTERNAL" && spec.resolution !== "NONE" && spec.hosts.every(isGlobal);
}

function hostOf(key: string, { clusterDomain }: MeshSettings): string {
  const [namespace, name] = key.split("/");
  return `${name}.${namespace}.svc.${clusterDomain}`;
}

/** Who answers, once the egress gateway is between: callers see the gateway, and it alone sees the others. */
export function behindEgress(
  endpoints: readonly Endpoint[],
  options: {
    readonly leaving: Leaving;
    readonly ports: readonly ServicePort[];
    readonly services: SortedMap<string, Service>;
    readonly settings: MeshSettings;
  },
): { readonly endpoints: readonly Endpoint[]; readonly egress: Egress | undefined } {
  const { leaving, ports, services, settings } = options;
  const { by, gateway } = leaving;
  const service = services.get(gateway);
  const pods = service?.endpoints.filter((one) => one.ports[passedOnPort] !== undefined) ?? [];
  const problem = !service
    ? "no-service"
    : !service.ports.some((port) => port.number === passedOnPort)
      ? "no-port"
      : pods.length === 0
        ? "not-ready"
        : undefined;
  const egress: Egress = Object.freeze({ gateway, by, problem });
  const own = hostOf(gateway, settings);
  const brought = services.has(knownAs) ? undefined : hostOf(knownAs, settings);
  // With the port: where pods share one address, nothing else tells them apart.
  const ways = new Set([
    ...[own, brought, ...(service?.addresses ?? [])].map((address) => `${address}:${passedOnPort}`),
    ...pods.map((pod) => `${pod.address}:${pod.ports[passedOnPort]}`),
  ]);
  const isGateway = ({ address, ports }: Endpoint) =>
    Object.values(ports).some((port) => ways.has(`${address}:${port}`));
  if (by === "endpoint") {
    const marked = endpoints.map((one) =>
      isGateway(one)
        ? Object.freeze({ ...one, address: one.address === brought ? own : one.address, egress: true })
        : one,
    );
    return { endpoints: marked, egress: marked.some((one) => one.egress) ? egress : undefined };
  }
  const hidden = endpoints
    .filter((one) => !isGateway(one))
    .map((one) => (one.network === "" ? Object.freeze({ ...one, network: outside }) : one));
  return { endpoints: [...hidden, ...pods.map((pod) => standIn(pod, ports))], egress };
}

/** One pod of the egress gateway in the place of all endpoints that it alone sees: any port is its port 15443. */
function standIn(pod: Endpoint, ports: readonly ServicePort[]): Endpoint {
  const target = pod.ports[passedOnPort]!;
  return Object.freeze({
    ...pod,
    ports: Object.freeze(
      Object.fromEntries(ports.filter((port) => port.protocol !== "udp").map((port) => [port.number, target])),
    ),
    labels: {},
    identity: undefined,
    mutualTls: false,
    workload: "",
    hostname: "",
    egress: true,
  });
}

/** An endpoint of an entry that says nothing of egress gateways, beside one of the same host that asks for one. */
export function hiddenFromSidecars(endpoint: Endpoint): Endpoint {
  return endpoint.egress || endpoint.network !== "" ? endpoint : Object.freeze({ ...endpoint, network: outside });
}
