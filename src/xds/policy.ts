import type { MergedRule, Subset } from "../model/index.ts";
import type { HealthCheck, TrafficPolicy } from "../resources/index.ts";

/** The parts of a policy that hold for one port and subset. */
export interface PortPolicy
  extends Pick<
    TrafficPolicy,
    "loadBalancer" | "connectionPool" | "outlierDetection" | "tls" | "proxyProtocol" | "retryBudget"
  > {
  readonly healthCheck?: HealthCheck | undefined;
}

const none: PortPolicy = {};

/**
 * What a rule says for a port, and for a subset of it. A port's own settings take the place of the policy's parts that
 * a port can have; what a subset's policy does not name it takes from the rule's. A part that nobody names is absent,
 * never "off".
 */
export function policyFor(rule: MergedRule | undefined, port: number, subset?: Subset): PortPolicy {
  if (!rule) return none;
  return {
    ...partsAt(rule.policy, port),
    ...partsAt(subset?.policy, port),
    ...(rule.healthCheck ? { healthCheck: rule.healthCheck } : {}),
  };
}

function partsAt(policy: TrafficPolicy | undefined, port: number): PortPolicy {
  if (!policy) return none;
  const { proxyProtocol, retryBudget } = policy;
  const ofPort = policy.portLevelSettings.find((one) => one.port.number === port) ?? policy;
  const { loadBalancer, connectionPool, outlierDetection, tls } = ofPort;
  const parts = { loadBalancer, connectionPool, outlierDetection, tls, proxyProtocol, retryBudget };
  return Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined));
}
