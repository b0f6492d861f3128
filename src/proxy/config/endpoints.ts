import type { Metadata } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { HealthStatus } from "../../proto/gen/envoy/config/core/v3/health_check_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "../../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Locality } from "../../values/index.ts";
import { type HostPort, readHostPort } from "./address.ts";
import { type Place, type Read, readBytes } from "./reading.ts";

/** One endpoint as configuration gives it; `host` may be a name in DNS clusters. */
export interface EndpointConfig extends HostPort {
  readonly weight: number;
  /** As told by the control plane. Draining and unhealthy endpoints get nothing new. */
  readonly healthy: boolean;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Endpoints of one place, at one priority; 0 is the first choice. */
export interface LocalityEndpoints {
  readonly locality: Locality;
  readonly priority: number;
  /** Used where a cluster weighs localities; undefined there takes no traffic. */
  readonly weight: number | undefined;
  readonly endpoints: readonly EndpointConfig[];
}

/** Who answers for a cluster. */
export interface LoadAssignment {
  readonly name: string;
  readonly localities: readonly LocalityEndpoints[];
  /** Percent of what the healthy share must be multiplied with before a priority counts as full; 140 by default. */
  readonly overprovisioning: number;
}

export function readEndpoints(bytes: Uint8Array): Read<LoadAssignment> {
  return readBytes(ClusterLoadAssignmentSchema, bytes, readLoadAssignment);
}

export function readLoadAssignment(message: ClusterLoadAssignment, place: Place): LoadAssignment {
  const localities = message.endpoints.map((group, index): LocalityEndpoints => {
    const at = place.field("endpoints").item(index);
    if (group.priority > 128) at.field("priority").refuse(`must be at most 128, got ${group.priority}`);
    const endpoints = group.lbEndpoints.map((each, position): EndpointConfig | undefined => {
      const here = at.field("lb_endpoints").item(position);
      if (each.hostIdentifier.case !== "endpoint") return here.refuse("must hold an endpoint");
      const address = readHostPort(each.hostIdentifier.value.address, here.field("endpoint.address"));
      const weight = each.loadBalancingWeight ?? 1;
      if (weight < 1) return here.field("load_balancing_weight").refuse("must be at least 1");
      return (
        address && { ...address, weight, healthy: isHealthy(each.healthStatus), metadata: plainMetadata(each.metadata) }
      );
    });
    return {
      locality: {
        region: group.locality?.region ?? "",
        zone: group.locality?.zone ?? "",
        subzone: group.locality?.subZone ?? "",
      },
      priority: group.priority,
      weight: group.loadBalancingWeight,
      endpoints: endpoints.filter((endpoint) => endpoint !== undefined),
    };
  });
  return { name: message.clusterName, localities, overprovisioning: message.policy?.overprovisioningFactor ?? 140 };
}

function isHealthy(status: HealthStatus): boolean {
  return status === HealthStatus.UNKNOWN || status === HealthStatus.HEALTHY || status === HealthStatus.DEGRADED;
}

const noMetadata: Readonly<Record<string, unknown>> = Object.freeze({});

/** Filter metadata as plain values: `{ "envoy.transport_socket_match": { tlsMode: "istio" } }`. */
export function plainMetadata(metadata: Metadata | undefined): Readonly<Record<string, unknown>> {
  return metadata && Object.keys(metadata.filterMetadata).length > 0 ? metadata.filterMetadata : noMetadata;
}
