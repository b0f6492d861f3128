import {
  type ForwardPolicy,
  type GatewayServer,
  type Mesh,
  ruleFor,
  type VirtualRoutes,
  visibleTo,
} from "../model/index.ts";
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
  readonly forward: ForwardPolicy | undefined;
}

/** VirtualServices bound to a server's Gateway that may use its hosts, oldest first. */
export function boundTo(work: PortWork, one: GatewayServer): readonly VirtualRoutes[] {
  const { namespace } = one.gateway;
  return work.mesh.virtualServices.filter(
    (owner) =>
      owner.gateways.includes(one.key) &&
      (owner.namespace === namespace || visibleTo(owner.visibility, namespace)) &&
      hostsOf(one, owner.namespace).some((host) => owner.hosts.some((own) => sharedHost(host, own) !== undefined)),
  );
}

/** The hosts of a server that VirtualServices of a namespace may use. */
export function hostsOf({ server, gateway }: GatewayServer, namespace: string): readonly string[] {
  return server.hosts
    .filter((one) => one.namespace === "*" || namespace === (one.namespace === "." ? gateway.namespace : one.namespace))
    .map(({ host }) => host);
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
