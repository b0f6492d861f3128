import { outsideAddresses } from "./addresses.ts";
import type { ServedPort } from "./service-rules.ts";

export interface ServiceObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly deletionTimestamp?: string };
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalIPs?: readonly string[];
    readonly publishNotReadyAddresses?: boolean;
    readonly ports?: ReadonlyArray<{
      readonly name?: string;
      readonly port: number;
      readonly protocol?: string;
      readonly nodePort?: number;
    }>;
  };
  readonly status?: { readonly loadBalancer?: { readonly ingress?: ReadonlyArray<{ readonly ip?: string }> } };
}

export interface EndpointSliceObject {
  readonly metadata: { readonly namespace?: string; readonly labels?: Readonly<Record<string, string>> };
  readonly addressType?: string;
  readonly endpoints?: ReadonlyArray<{
    readonly addresses: readonly string[];
    readonly conditions?: { readonly ready?: boolean | null };
  }> | null;
  readonly ports?: ReadonlyArray<{ readonly name?: string; readonly port?: number; readonly protocol?: string }> | null;
}

/** What the router serves for these Services; those without an address of their own need nothing. */
export function servedPorts(options: {
  readonly index: number;
  readonly services: Iterable<ServiceObject>;
  readonly slices: Iterable<EndpointSliceObject>;
  /** Addresses of load balancers by `namespace/name`. */
  readonly loadBalancers: ReadonlyMap<string, string>;
}): readonly ServedPort[] {
  const slicesOf = new Map<string, EndpointSliceObject[]>();
  for (const slice of options.slices) {
    const service = slice.metadata.labels?.["kubernetes.io/service-name"];
    if (service === undefined || slice.addressType !== "IPv4") continue;
    const key = `${slice.metadata.namespace}/${service}`;
    slicesOf.set(key, [...(slicesOf.get(key) ?? []), slice]);
  }
  const served: ServedPort[] = [];
  for (const { metadata, spec } of options.services) {
    if (!spec || spec.type === "ExternalName") continue;
    const key = `${metadata.namespace}/${metadata.name}`;
    const addresses = [
      ...(spec.clusterIPs ?? [spec.clusterIP]),
      ...(spec.externalIPs ?? []),
      options.loadBalancers.get(key),
    ];
    const ips = addresses.filter(
      (ip): ip is string => ip !== undefined && ip !== "" && ip !== "None" && !ip.includes(":"),
    );
    for (const { name = "", port, protocol = "TCP", nodePort } of spec.ports ?? []) {
      if (protocol !== "TCP" && protocol !== "UDP") continue;
      const at = ips.map((ip) => ({ ip, port }));
      if (nodePort) at.push({ ip: outsideAddresses(options.index).node, port: nodePort });
      if (at.length === 0) continue;
      const endpoints = (slicesOf.get(key) ?? []).flatMap((slice) => endpointsOf(slice, name, protocol));
      served.push({ protocol: protocol === "TCP" ? "tcp" : "udp", at, endpoints: [...new Set(endpoints)].sort() });
    }
  }
  return served;
}

function endpointsOf(slice: EndpointSliceObject, name: string, protocol: string): readonly string[] {
  const port = slice.ports?.find((one) => (one.name ?? "") === name && (one.protocol ?? "TCP") === protocol)?.port;
  if (port === undefined) return [];
  // A condition that nobody states counts as true (discovery.k8s.io/v1).
  const ready = (slice.endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false);
  return ready.flatMap(({ addresses }) => addresses.slice(0, 1).map((ip) => `${ip}:${port}`));
}

/** Addresses for load balancers: those that have one keep it, the others get the lowest that is free. */
export function assignLoadBalancers(
  services: Iterable<ServiceObject>,
  held: ReadonlyMap<string, string>,
  ipOf: (number: number) => string,
): ReadonlyMap<string, string> {
  const wanting = [...services].filter(
    ({ spec, metadata }) => spec?.type === "LoadBalancer" && !metadata.deletionTimestamp,
  );
  const keys = wanting.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).sort();
  const assigned = new Map<string, string>();
  for (const key of keys) {
    const own = held.get(key);
    if (own !== undefined) assigned.set(key, own);
  }
  const used = new Set(assigned.values());
  for (const key of keys) {
    if (assigned.has(key)) continue;
    for (let number = 0; number < 200; number++) {
      const ip = ipOf(number);
      if (used.has(ip)) continue;
      used.add(ip);
      assigned.set(key, ip);
      break;
    }
  }
  return assigned;
}
