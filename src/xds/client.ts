import type { Mesh, Service } from "../model/index.ts";
import { cached, visibleTo } from "../model/index.ts";
import { formatLocality, type Hostname, type Labels, type Locality } from "../values/index.ts";
import type { ProxyNode } from "./node.ts";

/** What outbound configuration depends on; proxies for which this is equal share all of it. */
export interface Client {
  /** Equal for equal clients. */
  readonly key: string;
  readonly role: ProxyNode["role"];
  readonly namespace: string;
  readonly locality: Locality;
  readonly labels: Labels;
  /** Networks whose endpoints it sees. */
  readonly networks: ReadonlySet<string>;
  /** Whether it asked for networks itself: then it sees those alone. */
  readonly requestedView: boolean;
  /** The parts of `key` that a cluster depends on: without the place, and with it. */
  readonly clusterKeys: { readonly anywhere: string; readonly here: string };
}

/** A proxy that asks for no view sees what is on no named network, and what is on its own. */
export function clientOf(node: ProxyNode, labels: Labels): Client {
  const requestedView = node.networkView.length > 0;
  const networks = new Set(requestedView ? node.networkView : ["", node.network]);
  const sortedLabels = Object.keys(labels)
    .sort()
    .map((key) => `${key}=${labels[key]}`);
  const key = JSON.stringify([
    node.role,
    node.namespace,
    formatLocality(node.locality),
    [...networks].sort(),
    requestedView,
    sortedLabels,
  ]);
  const anywhere = `${node.role} ${[...networks].sort().join(",")}`;
  const clusterKeys = { anywhere, here: `${anywhere} ${formatLocality(node.locality)}` };
  return {
    clusterKeys,
    key,
    role: node.role,
    namespace: node.namespace,
    locality: node.locality,
    labels,
    networks,
    requestedView,
  };
}

const visible = new WeakMap<Mesh, Map<string, ReadonlyMap<Hostname, Service>>>();

/** The services that proxies of a namespace may see: of a contested host its own namespace's, else the oldest it may see. */
export function visibleServices(mesh: Mesh, namespace: string): ReadonlyMap<Hostname, Service> {
  const byNamespace = cached(visible, mesh, () => new Map<string, ReadonlyMap<Hostname, Service>>());
  let services = byNamespace.get(namespace);
  if (!services) {
    services = everyoneSees(mesh) ? mesh.services : filtered(mesh, namespace);
    byNamespace.set(namespace, services);
  }
  return services;
}

function everyoneSees(mesh: Mesh): boolean {
  if (mesh.contested.size > 0) return false;
  for (const service of mesh.services.values()) if (service.visibility !== "everyone") return false;
  return true;
}

function filtered(mesh: Mesh, namespace: string): ReadonlyMap<Hostname, Service> {
  const services = new Map<Hostname, Service>();
  for (const [host, service] of mesh.services) {
    const candidates = (mesh.contested.get(host) ?? [service]).filter((one) => visibleTo(one.visibility, namespace));
    const chosen = candidates.find((one) => one.namespace === namespace) ?? candidates[0];
    if (chosen) services.set(host, chosen);
  }
  return services;
}
