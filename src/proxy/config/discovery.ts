import type { Duration } from "@bufbuild/protobuf/wkt";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_LbPolicy,
} from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { DnsLookupFamily } from "../../proto/gen/envoy/extensions/clusters/common/dns/v3/dns_pb.js";
import { DnsClusterSchema } from "../../proto/gen/envoy/extensions/clusters/dns/v3/dns_cluster_pb.js";
import { isPacked } from "../../proto/index.ts";
import { parseIp } from "../../values/index.ts";
import { type LoadAssignment, readLoadAssignment } from "./endpoints.ts";
import { type Place, readAny, readDuration } from "./reading.ts";

type DnsFamily = "v4" | "v6" | "auto" | "all";

/** Where a cluster's endpoints come from. */
export type Discovery =
  | { readonly kind: "static"; readonly assignment: LoadAssignment }
  | { readonly kind: "eds"; readonly serviceName: string }
  | {
      readonly kind: "dns";
      /** `logical`: the answer is one endpoint, whichever address is used; `strict`: each address is one. */
      readonly mode: "strict" | "logical";
      readonly assignment: LoadAssignment;
      readonly refreshMs: number;
      /** How soon to ask again after a failure, longer each time; undefined as after an answer. */
      readonly failureRefresh: { readonly firstMs: number; readonly maxMs: number } | undefined;
      /** At most this much is waited longer, by chance, so that many proxies do not ask at one moment. */
      readonly jitterMs: number;
      readonly respectTtl: boolean;
      readonly family: DnsFamily;
    }
  | { readonly kind: "original-destination"; readonly port: number | undefined };

export function readDiscovery(message: Cluster, place: Place): Discovery | undefined {
  const type = message.clusterDiscoveryType;
  const assignment = () =>
    message.loadAssignment
      ? readLoadAssignment(message.loadAssignment, place.field("load_assignment"))
      : { name: message.name, localities: [], overprovisioning: 140 };
  if (type.case === "clusterType") {
    const at = place.field("cluster_type");
    if (!isPacked(type.value.typedConfig, DnsClusterSchema))
      return at.refuse(`clusters of type "${type.value.name}" are not known; there is envoy.clusters.dns`);
    const names = readAny(type.value.typedConfig, DnsClusterSchema, at.field("typed_config"));
    if (!names) return undefined;
    if (names.typedDnsResolverConfig)
      at.field("typed_config.typed_dns_resolver_config").refuse(
        "is not known; names are asked of the machine's resolver",
      );
    return readNames(
      {
        mode: names.allAddressesInSingleEndpoint ? "logical" : "strict",
        refreshRate: names.dnsRefreshRate,
        failureRate: names.dnsFailureRefreshRate,
        jitter: names.dnsJitter,
        respectTtl: names.respectDnsTtl,
        family: typedFamilies[names.dnsLookupFamily] ?? "auto",
        assignment: assignment(),
      },
      { fields: at.field("typed_config"), assigned: place },
    );
  }
  switch (type.value ?? Cluster_DiscoveryType.STATIC) {
    case Cluster_DiscoveryType.STATIC: {
      const given = assignment();
      for (const [group, { endpoints }] of given.localities.entries())
        for (const [index, { host }] of endpoints.entries())
          if (!parseIp(host))
            place
              .field("load_assignment.endpoints")
              .item(group)
              .field("lb_endpoints")
              .item(index)
              .refuse(`must be an IP address in a STATIC cluster, got "${host}"`);
      return { kind: "static", assignment: given };
    }
    case Cluster_DiscoveryType.EDS: {
      const source = message.edsClusterConfig?.edsConfig?.configSourceSpecifier.case;
      if (source !== "ads" && source !== "self")
        place.field("eds_cluster_config.eds_config").refuse(`must be ads, got ${source ?? "nothing"}`);
      return { kind: "eds", serviceName: message.edsClusterConfig?.serviceName || message.name };
    }
    case Cluster_DiscoveryType.STRICT_DNS:
    case Cluster_DiscoveryType.LOGICAL_DNS:
      return readNames(
        {
          mode: type.value === Cluster_DiscoveryType.LOGICAL_DNS ? "logical" : "strict",
          refreshRate: message.dnsRefreshRate,
          failureRate: message.dnsFailureRefreshRate,
          jitter: undefined,
          respectTtl: message.respectDnsTtl,
          family: dnsFamilies[message.dnsLookupFamily] ?? "auto",
          assignment: assignment(),
        },
        { fields: place, assigned: place },
      );
    case Cluster_DiscoveryType.ORIGINAL_DST: {
      if (message.lbPolicy !== Cluster_LbPolicy.CLUSTER_PROVIDED)
        place.field("lb_policy").refuse("must be CLUSTER_PROVIDED in an ORIGINAL_DST cluster");
      const options = message.lbConfig.case === "originalDstLbConfig" ? message.lbConfig.value : undefined;
      if (options?.useHttpHeader)
        place
          .field("original_dst_lb_config.use_http_header")
          .refuse("a header of the caller does not choose where a connection goes");
      return { kind: "original-destination", port: options?.upstreamPortOverride };
    }
    default:
      return place.field("type").refuse(`is not known: ${type.value}`);
  }
}

/** What both ways to write a cluster of names say. */
interface Names {
  readonly mode: "strict" | "logical";
  readonly refreshRate: Duration | undefined;
  readonly failureRate:
    | { readonly baseInterval?: Duration | undefined; readonly maxInterval?: Duration | undefined }
    | undefined;
  readonly jitter: Duration | undefined;
  readonly respectTtl: boolean;
  readonly family: DnsFamily;
  readonly assignment: LoadAssignment;
}

function readNames(
  { mode, refreshRate, failureRate, jitter, respectTtl, family, assignment }: Names,
  { fields, assigned }: { readonly fields: Place; readonly assigned: Place },
): Discovery {
  if (mode === "logical" && assignment.localities.flatMap((group) => group.endpoints).length !== 1)
    assigned.field("load_assignment").refuse("a LOGICAL_DNS cluster has exactly one endpoint");
  const refreshMs = readDuration(refreshRate, 5000, fields.field("dns_refresh_rate"));
  if (refreshMs < 1) fields.field("dns_refresh_rate").refuse("must be at least 1 ms");
  const failed = fields.field("dns_failure_refresh_rate");
  const firstMs = readDuration(failureRate?.baseInterval, refreshMs, failed.field("base_interval"));
  if (firstMs < 1) failed.field("base_interval").refuse("must be at least 1 ms");
  const maxMs = readDuration(failureRate?.maxInterval, firstMs * 10, failed.field("max_interval"));
  if (maxMs < firstMs) failed.field("max_interval").refuse("must not be less than base_interval");
  return {
    kind: "dns",
    mode,
    assignment,
    refreshMs,
    failureRefresh: failureRate && { firstMs, maxMs },
    jitterMs: readDuration(jitter, 0, fields.field("dns_jitter")),
    respectTtl,
    family,
  };
}

const dnsFamilies: Readonly<Record<number, DnsFamily>> = {
  [Cluster_DnsLookupFamily.AUTO]: "auto",
  [Cluster_DnsLookupFamily.V4_ONLY]: "v4",
  [Cluster_DnsLookupFamily.V6_ONLY]: "v6",
  [Cluster_DnsLookupFamily.V4_PREFERRED]: "auto",
  [Cluster_DnsLookupFamily.ALL]: "all",
};

const typedFamilies: Readonly<Record<number, DnsFamily>> = {
  [DnsLookupFamily.AUTO]: "auto",
  [DnsLookupFamily.V4_ONLY]: "v4",
  [DnsLookupFamily.V6_ONLY]: "v6",
  [DnsLookupFamily.V4_PREFERRED]: "auto",
  [DnsLookupFamily.ALL]: "all",
};
