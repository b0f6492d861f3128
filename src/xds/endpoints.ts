import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Endpoint, Service, ServicePort, Subset } from "../model/index.ts";
import type { LocalityLbEndpointsSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";
import { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { formatLocality, type Locality, selects } from "../values/index.ts";
import { type Layout, rankOf, sharesOf } from "./locality.ts";
import { endpointAddress } from "./typed.ts";

interface Choice {
  readonly port: ServicePort;
  readonly subset: Subset | undefined;
  /** Networks that the client sees. */
  readonly networks: ReadonlySet<string>;
}

/**
 * Endpoints of a service that serve a port, carry a subset's labels, and are on a network that the client sees. Where
 * the subset's own are on a network that it does not see, those that say nothing of the subset's labels stand for them:
 * an egress gateway leads to every subset, and chooses among its endpoints itself.
 */
export function endpointsFor(service: Service, { port, subset, networks }: Choice): readonly Endpoint[] {
  const serving = service.endpoints.filter((one) => one.ports[port.number] !== undefined);
  const seen = serving.filter((one) => networks.has(one.network));
  if (subset === undefined) return seen;
  const chosen = (one: Endpoint) => selects(subset.labels, one.labels);
  if (!serving.some((one) => !networks.has(one.network) && chosen(one))) return seen.filter(chosen);
  const silent = (one: Endpoint) => Object.keys(subset.labels).every((key) => !Object.hasOwn(one.labels, key));
  return seen.filter((one) => chosen(one) || silent(one));
}

/** Who answers in the end: behind an egress gateway, whom it leads to. */
export function answering(service: Service, { port, subset, networks }: Choice): readonly Endpoint[] {
  const seen = endpointsFor(service, { port, subset, networks });
  if (!seen.some((one) => one.egress)) return seen;
  const hidden = service.endpoints.filter(
    (one) =>
      one.ports[port.number] !== undefined &&
      !networks.has(one.network) &&
      (subset === undefined || selects(subset.labels, one.labels)),
  );
  return [...seen.filter((one) => !one.egress), ...hidden];
}

export function loadAssignment(
  clusterName: string,
  options: { readonly endpoints: readonly Endpoint[]; readonly port: number; readonly layout: Layout },
): MessageInitShape<typeof ClusterLoadAssignmentSchema> {
  const { endpoints, port, layout } = options;
  const groups = new Map<string, Group>();
  for (const one of endpoints) {
    const rank = rankOf(one, layout);
    const key = `${formatLocality(one.locality)} ${rank}`;
    const group = groups.get(key);
    if (group) group.members.push(one);
    else groups.set(key, { locality: one.locality, rank, members: [one] });
  }
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  // Priorities must have no gaps, or a proxy takes the empty ones for failed.
  const steps = [...new Set(sorted.map(({ rank }) => rank))].sort((a, b) => a - b);
  const own = sorted.map(({ members }) => members.reduce((sum, one) => sum + one.weight, 0));
  const weights =
    layout.kind === "shared-out"
      ? sharesOf(
          sorted.map(({ locality }, at) => ({ locality, weight: own[at]! })),
          layout,
        )
      : own;
  return {
    clusterName,
    endpoints: sorted.flatMap((group, at) => {
      const weight = weights[at];
      return weight === undefined ? [] : [localityOf(group, { port, weight, priority: steps.indexOf(group.rank) })];
    }),
  };
}

interface Group {
  readonly locality: Locality;
  readonly rank: number;
  readonly members: Endpoint[];
}

function localityOf(
  { locality, members }: Group,
  { port, weight, priority }: { readonly port: number; readonly weight: number; readonly priority: number },
): MessageInitShape<typeof LocalityLbEndpointsSchema> {
  const { region, zone, subzone } = locality;
  return {
    locality: { region, zone, subZone: subzone },
    loadBalancingWeight: weight,
    priority,
    lbEndpoints: members.map((one) => ({
      hostIdentifier: { case: "endpoint", value: { address: endpointAddress(one.address, one.ports[port]!) } },
      loadBalancingWeight: one.weight,
      ...(one.mutualTls
        ? { metadata: { filterMetadata: { "envoy.transport_socket_match": { tlsMode: "istio" } } } }
        : {}),
    })),
  };
}

export { ClusterLoadAssignmentSchema };
