import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MeshSettings } from "../model/index.ts";
import type { ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { ClusterLoadAssignmentSchema } from "../proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { DnsLookupFamily } from "../proto/gen/envoy/extensions/clusters/common/dns/v3/dns_pb.js";
import { DnsClusterSchema } from "../proto/gen/envoy/extensions/clusters/dns/v3/dns_cluster_pb.js";
import { type Fields, milliseconds, typed } from "./typed.ts";

/** Endpoints that are names: each address of a name one of its own, or all of them one. */
export function dnsDiscovery(
  assignment: MessageInitShape<typeof ClusterLoadAssignmentSchema>,
  { logical, settings }: { readonly logical: boolean; readonly settings: MeshSettings },
): Fields<typeof ClusterSchema> {
  return {
    clusterDiscoveryType: {
      case: "clusterType",
      value: {
        name: "envoy.clusters.dns",
        typedConfig: typed(DnsClusterSchema, {
          dnsRefreshRate: milliseconds(settings.dnsRefreshMs),
          respectDnsTtl: true,
          dnsLookupFamily: DnsLookupFamily.V4_PREFERRED,
          allAddressesInSingleEndpoint: logical,
        }),
      },
    },
    loadAssignment: assignment,
  };
}
