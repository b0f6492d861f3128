import type { Origin } from "../values/index.ts";

/** The types that we serve, in the order in which a change must reach a proxy: make before break. */
export const typeUrls = {
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoints: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  secret: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
  names: "type.googleapis.com/istio.networking.nds.v1.NameTable",
} as const;

export type TypeUrl = (typeof typeUrls)[keyof typeof typeUrls];

/**
 * One resource as it goes over the wire: encoded once, sent to as many proxies as want it. Its version is made from
 * its content, so the same content is the same version, whoever made it and when.
 */
export interface Versioned {
  readonly name: string;
  readonly version: string;
  /** The encoded message (what an `Any` of its type carries as `value`). */
  readonly bytes: Uint8Array;
  /** Which objects it was made from, for whoever asks where it comes from. */
  readonly origins: readonly Origin[];
}

/** What one proxy should be running. Frozen; what did not change between two snapshots is the same object. */
export type Snapshot = ReadonlyMap<TypeUrl, ReadonlyMap<string, Versioned>>;
