import { type Cluster, Cluster_LbPolicy } from "../../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { RuntimeDouble } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { LeastRequestSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { MaglevSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { RandomSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import { RingHashSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "../../proto/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { isPacked } from "../../proto/index.ts";
import { type Place, readAny, readDuration } from "./reading.ts";

export type Balancing =
  | { readonly kind: "round-robin"; readonly slowStart?: SlowStart | undefined }
  | { readonly kind: "least-request"; readonly choices: number; readonly slowStart?: SlowStart | undefined }
  | { readonly kind: "random" }
  | { readonly kind: "ring-hash"; readonly minSize: number; readonly maxSize: number };

/** What a new endpoint gets while it warms up: its weight grows from a part of it to all of it. */
export interface SlowStart {
  readonly windowMs: number;
  /** 1 grows evenly; more grows faster at first. */
  readonly aggression: number;
  /** Percent of the weight that it has at least. */
  readonly leastPercent: number;
}

const defaultRing = { minSize: 1024, maxSize: 8 * 1024 * 1024 };

export function readBalancing(message: Cluster, place: Place): Balancing {
  for (const [index, policy] of (message.loadBalancingPolicy?.policies ?? []).entries()) {
    const typed = policy.typedExtensionConfig?.typedConfig;
    const at = place.field("load_balancing_policy.policies").item(index).field("typed_extension_config.typed_config");
    if (isPacked(typed, RoundRobinSchema)) {
      const { slowStartConfig } = readAny(typed, RoundRobinSchema, at) ?? {};
      return { kind: "round-robin", slowStart: readSlowStart(slowStartConfig, at) };
    }
    if (isPacked(typed, LeastRequestSchema)) {
      const { choiceCount, slowStartConfig } = readAny(typed, LeastRequestSchema, at) ?? {};
      return { kind: "least-request", choices: choiceCount ?? 2, slowStart: readSlowStart(slowStartConfig, at) };
    }
    if (isPacked(typed, RandomSchema)) return { kind: "random" };
    if (isPacked(typed, MaglevSchema)) return ringHash(undefined, undefined, at);
    if (isPacked(typed, RingHashSchema)) {
      const ring = readAny(typed, RingHashSchema, at);
      return ringHash(ring?.minimumRingSize, ring?.maximumRingSize, at);
    }
    // A list of policies is in order of preference: one that is not known gives way to the next.
  }
  if (message.loadBalancingPolicy) place.field("load_balancing_policy").refuse("names no policy that is known");
  const options = message.lbConfig;
  switch (message.lbPolicy) {
    case Cluster_LbPolicy.LEAST_REQUEST: {
      const { choiceCount, slowStartConfig } = options.case === "leastRequestLbConfig" ? options.value : {};
      const slowStart = readSlowStart(slowStartConfig, place.field("least_request_lb_config"));
      return { kind: "least-request", choices: choiceCount ?? 2, slowStart };
    }
    case Cluster_LbPolicy.RANDOM:
      return { kind: "random" };
    case Cluster_LbPolicy.RING_HASH:
    case Cluster_LbPolicy.MAGLEV: {
      // Both promise that a hash keeps its endpoint while others come and go; one ring serves either.
      const ring = options.case === "ringHashLbConfig" ? options.value : undefined;
      return ringHash(ring?.minimumRingSize, ring?.maximumRingSize, place.field("ring_hash_lb_config"));
    }
    case Cluster_LbPolicy.ROUND_ROBIN:
    case Cluster_LbPolicy.CLUSTER_PROVIDED: {
      const { slowStartConfig } = options.case === "roundRobinLbConfig" ? options.value : {};
      return { kind: "round-robin", slowStart: readSlowStart(slowStartConfig, place.field("round_robin_lb_config")) };
    }
    default:
      place.field("lb_policy").refuse(`is not known: ${message.lbPolicy}`);
      return { kind: "round-robin", slowStart: undefined };
  }
}

function ringHash(minimum: bigint | undefined, maximum: bigint | undefined, place: Place): Balancing {
  const minSize = Number(minimum ?? defaultRing.minSize);
  const maxSize = Number(maximum ?? defaultRing.maxSize);
  if (minSize > maxSize || maxSize > defaultRing.maxSize)
    place.refuse(`ring sizes must satisfy minimum ≤ maximum ≤ ${defaultRing.maxSize}, got ${minSize} and ${maxSize}`);
  return { kind: "ring-hash", minSize, maxSize };
}

interface SlowStartMessage {
  readonly slowStartWindow?: Parameters<typeof readDuration>[0] | undefined;
  readonly aggression?: RuntimeDouble | undefined;
  readonly minWeightPercent?: { readonly value: number } | undefined;
}

function readSlowStart(message: SlowStartMessage | undefined, place: Place): SlowStart | undefined {
  if (!message) return undefined;
  const at = place.field("slow_start_config");
  const windowMs = readDuration(message.slowStartWindow, 0, at.field("slow_start_window"));
  const aggression = message.aggression?.defaultValue ?? 1;
  if (!(aggression > 0)) at.field("aggression").refuse(`must be more than 0, got ${aggression}`);
  return windowMs === 0 ? undefined : { windowMs, aggression, leastPercent: message.minWeightPercent?.value ?? 10 };
}
