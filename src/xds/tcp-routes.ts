import { appliesTo, type Mesh, type Service, type ServicePort } from "../model/index.ts";
import type { TcpRule } from "../resources/index.ts";
import { cidrContains, clusterName, covers, type Hostname, isTls, outbound } from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { destinationCluster, type RouteContext } from "./destination.ts";
import { virtualServiceFor } from "./virtual-routes.ts";

/** A cluster, or several by weight. */
export type TcpDestination = string | ReadonlyArray<{ readonly cluster: string; readonly weight: number }>;

/** Where TCP for a service goes: where a VirtualService says for this port, else to the service itself. */
export function tcpDestination(
  mesh: Mesh,
  { service, port, client }: { readonly service: Service; readonly port: ServicePort; readonly client: Client },
): TcpDestination {
  const own = clusterName(outbound(service.hostname, port.number));
  const owner = virtualServiceFor(mesh, service, client);
  if (!owner) return own;
  const source = {
    gateway: "mesh",
    port: port.number,
    labels: client.labels,
    namespace: client.namespace,
    owner: owner.namespace,
  };
  const context: RouteContext = {
    mesh,
    owner,
    services: visibleServices(mesh, client.namespace),
    client,
    port: port.number,
    secure: false,
  };
  if (isTls(port.protocol)) {
    const rule = owner.spec.tls.find((one) =>
      one.match.some(
        (match) =>
          appliesTo(match, source) &&
          match.sniHosts.some((host) => host === "*" || covers(host as Hostname, service.hostname)),
      ),
    );
    return rule ? tcpTargets(rule.route, context) : own;
  }
  const rule = owner.spec.tcp.find(
    (one) =>
      one.match.length === 0 ||
      one.match.some(
        (match) =>
          appliesTo(match, source) &&
          (match.destinationSubnets.length === 0 ||
            service.addresses.some((ip) => match.destinationSubnets.some((range) => cidrContains(range, ip)))),
      ),
  );
  return rule ? tcpTargets(rule.route, context) : own;
}

export function tcpTargets(routes: TcpRule["route"], context: RouteContext): TcpDestination {
  const used = routes.filter((one) => one.weight > 0);
  if (used.length === 1) return destinationCluster(used[0]!.destination, context);
  return used.map((one) => ({ cluster: destinationCluster(one.destination, context), weight: one.weight }));
}
