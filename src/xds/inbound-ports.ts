import { byAge, cached, type Mesh, type Service, type ServicePort } from "../model/index.ts";
import { type Labels, type Protocol, selects } from "../values/index.ts";
import type { ProxyNode } from "./node.ts";

/** One port of a workload, as its services declare it. */
export interface InboundPort {
  /** What the workload listens on. */
  readonly app: number;
  readonly protocol: Protocol;
  /** What callers call; for names of hosts and logs. */
  readonly servicePort: number;
  readonly service: Service | undefined;
}

const byNamespace = new WeakMap<Mesh["owned"], Map<string, readonly Service[]>>();

/** Ports of a workload by what it listens on. Where two services share a port, the older says what is spoken. */
export function inboundPorts(mesh: Mesh, node: ProxyNode, labels: Labels): ReadonlyMap<number, InboundPort> {
  const found = new Map<number, InboundPort>();
  for (const service of servicesOf(mesh, node, labels)) {
    for (const port of service.ports) {
      if (port.protocol === "udp") continue;
      const app = targetOf(mesh, { service, port, node });
      if (!found.has(app)) found.set(app, { app, protocol: port.protocol, servicePort: port.number, service });
    }
  }
  return found;
}

/** The services that a workload is behind, oldest first: those that select it, and hand-written ones with its address. */
function servicesOf(mesh: Mesh, node: ProxyNode, labels: Labels): readonly Service[] {
  const known = cached(byNamespace, mesh.owned, () => new Map<string, readonly Service[]>());
  const services = cached(known, node.namespace, () =>
    [...mesh.owned.startingWith(`${node.namespace}/`)].map(([, service]) => service),
  );
  const own = services.filter(({ selector, endpoints }) =>
    selector === undefined
      ? endpoints.some((endpoint) => node.ips.some((ip) => ip === endpoint.address))
      : Object.keys(selector).length > 0 && selects(selector, labels),
  );
  return own.sort(byAge);
}

/** Where a gateway listens for a port that a Gateway names: what its Service's port of that number leads to. */
export function gatewayPort(
  mesh: Mesh,
  { node, labels, number }: { readonly node: ProxyNode; readonly labels: Labels; readonly number: number },
): number {
  for (const service of servicesOf(mesh, node, labels)) {
    const port = service.ports.find((one) => one.number === number);
    if (port) return port.targetPort;
  }
  return number;
}

/** The endpoint that this workload is knows best; a named target port may be another number in each pod. */
function targetOf(
  mesh: Mesh,
  { service, port, node }: { readonly service: Service; readonly port: ServicePort; readonly node: ProxyNode },
): number {
  const key = `${node.namespace}/${node.name}`;
  const self =
    service.endpoints.find((one) => one.workload === key) ??
    service.endpoints.find((one) => one.workload === "" && node.ips.some((ip) => ip === one.address));
  const known = self?.ports[port.number];
  if (known !== undefined) return known;
  const named = mesh.workloads.get(key)?.ports[port.name];
  return port.targetPort === port.number && named !== undefined ? named : port.targetPort;
}
