import type { MergedRule, Subset } from "../model/index.ts";
import type { TrafficPolicy } from "../resources/index.ts";

/** The parts of a policy that hold for one port and subset. */
export type PortPolicy = Pick<TrafficPolicy, "loadBalancer" | "connectionPool" | "outlierDetection" | "tls">;

const none: PortPolicy = {};

/**
 * What a rule says for a port, and for a subset of it. A port's own settings take the place of the whole policy; what
 * a subset's policy does not name it takes from the rule's. A part that nobody names is absent, never "off".
 */
export function policyFor(rule: MergedRule | undefined, port: number, subset?: Subset): PortPolicy {
  const general = atPort(rule?.policy, port);
  const special = atPort(subset?.policy, port);
  if (!special) return general ?? none;
  return {
    ...partsOf(general),
    ...partsOf(special),
  };
}

function atPort(policy: TrafficPolicy | undefined, port: number): PortPolicy | undefined {
  return policy?.portLevelSettings.find((one) => one.port.number === port) ?? policy;
}

function partsOf(policy: PortPolicy | undefined): PortPolicy {
  if (!policy) return none;
  const { loadBalancer, connectionPool, outlierDetection, tls } = policy;
  return {
    ...(loadBalancer ? { loadBalancer } : {}),
    ...(connectionPool ? { connectionPool } : {}),
    ...(outlierDetection ? { outlierDetection } : {}),
    ...(tls ? { tls } : {}),
  };
}
