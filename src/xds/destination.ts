import { type Mesh, resolveHost, ruleFor, type Service, type VirtualRoutes } from "../model/index.ts";
import type { RouteActionSchema } from "../proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { HttpRule } from "../resources/index.ts";
import { clusterName, type Hostname, outbound } from "../values/index.ts";
import type { Client } from "./client.ts";
import { policyFor } from "./policy.ts";
import { type Fields, milliseconds } from "./typed.ts";

/** What a route is written for: whose VirtualService, for whom, on which port. */
export interface RouteContext {
  readonly mesh: Mesh;
  readonly owner: VirtualRoutes;
  readonly services: ReadonlyMap<Hostname, Service>;
  readonly client: Client;
  readonly port: number;
  /** Whether callers speak TLS that is opened here: a gateway's HTTPS. */
  readonly secure: boolean;
}

type Destination = HttpRule["route"][number]["destination"];

/**
 * The cluster of a destination: its port, else the host's only port, else the port that was called. Requests that were
 * understood as HTTP have a cluster of their own at a port of undeclared protocol.
 */
export function destinationCluster(destination: Destination, context: RouteContext, spoken: "http" | "bytes"): string {
  const host = resolveHost(destination.host, context.owner.namespace, context.mesh.settings);
  const service = context.services.get(host);
  const only = service?.ports.length === 1 ? service.ports[0]!.number : undefined;
  const port = destination.port?.number ?? only ?? context.port;
  const traffic = outbound(host, port, destination.subset ?? "");
  const detected = spoken === "http" && service?.ports.find((one) => one.number === port)?.protocol === "unset";
  return clusterName(detected ? { ...traffic, http: true } : traffic);
}

/** What requests are hashed by, where the destination's rule asks for it. It stands on the route, not on the cluster. */
export function hashPolicyFor(
  destination: Pick<Destination, "host" | "subset" | "port">,
  context: RouteContext,
): NonNullable<Fields<typeof RouteActionSchema>["hashPolicy"]> {
  const host = resolveHost(destination.host, context.owner.namespace, context.mesh.settings);
  const service = context.services.get(host);
  if (!service) return [];
  const only = service.ports.length === 1 ? service.ports[0]!.number : context.port;
  return hashPolicyOf(context.mesh, {
    service,
    port: destination.port?.number ?? only,
    subset: destination.subset,
    client: context.client,
  });
}

export function hashPolicyOf(
  mesh: Mesh,
  {
    service,
    port,
    subset,
    client,
  }: { readonly service: Service; readonly port: number; readonly subset: string | undefined; readonly client: Client },
): NonNullable<Fields<typeof RouteActionSchema>["hashPolicy"]> {
  const rule = ruleFor(mesh.rules, service, {
    namespace: client.namespace,
    systemNamespace: mesh.settings.systemNamespace,
  });
  const hash = policyFor(
    rule,
    port,
    rule?.subsets.find((one) => one.name === subset),
  ).loadBalancer?.consistentHash;
  if (!hash) return [];
  if (hash.httpHeaderName !== undefined)
    return [{ policySpecifier: { case: "header", value: { headerName: hash.httpHeaderName } } }];
  if (hash.httpCookie) {
    const { name, path, ttl } = hash.httpCookie;
    return [{ policySpecifier: { case: "cookie", value: { name, path, ttl: milliseconds(ttl) } } }];
  }
  if (hash.httpQueryParameterName !== undefined)
    return [{ policySpecifier: { case: "queryParameter", value: { name: hash.httpQueryParameterName } } }];
  return hash.useSourceIp ? [{ policySpecifier: { case: "connectionProperties", value: { sourceIp: true } } }] : [];
}
