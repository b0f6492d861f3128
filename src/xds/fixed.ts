import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Versioned } from "../proto/index.ts";
import { versioned } from "./encode.ts";
import { httpProtocols } from "./protocol-options.ts";
import { milliseconds, socketAddress } from "./typed.ts";

/** Clusters that have the same name and content in every proxy. */
export const fixedNames = {
  /** Refuses: it has no endpoint. */
  blackHole: "BlackHoleCluster",
  /** Where the caller was going anyway. */
  passthrough: "PassthroughCluster",
  /** To the workload itself, on a port that no Service declares. */
  inboundPassthrough: "InboundPassthroughCluster",
} as const;

export const blackHole: Versioned = versioned(ClusterSchema, {
  name: fixedNames.blackHole,
  origins: [],
  message: {
    name: fixedNames.blackHole,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    connectTimeout: milliseconds(10_000),
    loadAssignment: { clusterName: fixedNames.blackHole },
  },
});

export const passthrough: Versioned = versioned(ClusterSchema, {
  name: fixedNames.passthrough,
  origins: [],
  message: {
    name: fixedNames.passthrough,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    connectTimeout: milliseconds(10_000),
    typedExtensionProtocolOptions: httpProtocols({ speak: "downstream" }),
  },
});

/**
 * The source address tells the capture rules that this connection was inbound already: without it, it would be
 * captured again and go round for ever.
 */
export const inboundPassthrough: Versioned = versioned(ClusterSchema, {
  name: fixedNames.inboundPassthrough,
  origins: [],
  message: {
    name: fixedNames.inboundPassthrough,
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    connectTimeout: milliseconds(10_000),
    upstreamBindConfig: { sourceAddress: socketAddress("127.0.0.6", 0).address.value as never },
    typedExtensionProtocolOptions: httpProtocols({ speak: "downstream" }),
  },
});
