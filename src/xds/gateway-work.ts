import { type GatewayServer, type Mesh, ruleFor, type VirtualRoutes, visibleTo } from "../model/index.ts";
import { covers, type Hostname, type Origin, parseClusterName } from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { clustersOf } from "./clusters.ts";
import type { RouteContext } from "./destination.ts";
import { type Parts, put } from "./parts.ts";

/** What is made for one port of a gateway. */
export interface PortWork {
  readonly mesh: Mesh;
  readonly client: Client;
  readonly parts: Parts;
  readonly listener: string;
  readonly port: number;
  /** Clusters that routes lead to. */
  readonly clusters: Set<string>;
  /** Takes the Secrets that those clusters need. */
  readonly credentials: Set<string>;
  readonly origins: Set<Origin>;
}

/** VirtualServices bound to a server's Gateway that may use its hosts, oldest first. */
export function boundTo(work: PortWork, { key, server, gateway }: GatewayServer): readonly VirtualRoutes[] {
  return work.mesh.virtualServices.filter(
    (one) =>
      one.gateways.includes(key) &&
      (one.namespace === gateway.namespace || visibleTo(one.visibility, gateway.namespace)) &&
      server.hosts.some(
        ({ namespace, host }) =>
          (namespace === "*" || one.namespace === (namespace === "." ? gateway.namespace : namespace)) &&
          one.hosts.some((own) => sharedHost(host, own) !== undefined),
      ),
  );
}

/** The narrower of two hosts when one covers the other. */
export function sharedHost(a: string, b: string): string | undefined {
  if (a === "*" || (b !== "*" && covers(a as Hostname, b as Hostname))) return b;
  if (b === "*" || covers(b as Hostname, a as Hostname)) return a;
  return undefined;
}

/** What a VirtualService's routes are written for at a gateway. */
export const contextOf = (work: PortWork, owner: VirtualRoutes, secure = false): RouteContext => ({
  mesh: work.mesh,
  owner,
  services: visibleServices(work.mesh, work.client.namespace),
  client: work.client,
  port: work.port,
  secure,
});

/** Only the clusters that routes lead to: a gateway has no way to anything else. */
export function addClusters({ mesh, client, parts, clusters, credentials }: PortWork): void {
  const services = visibleServices(mesh, client.namespace);
  const from = { namespace: client.namespace, systemNamespace: mesh.settings.systemNamespace };
  for (const name of clusters) {
    const traffic = parseClusterName(name);
    const service = traffic && services.get(traffic.host as Hostname);
    if (!service) continue;
    const rule = ruleFor(mesh.rules, service, from);
    for (const made of clustersOf(service, { rule, client, settings: mesh.settings, form: "own-traffic" })) {
      if (made.cluster.name !== name) continue;
      put(parts.cluster, made.cluster);
      put(parts.endpoints, made.endpoints);
      if (made.credential !== undefined) credentials.add(made.credential);
    }
  }
}
