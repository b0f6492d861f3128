import { addressPlan } from "./network.ts";

/** What a manifest may name of the lab's clusters, as `${CLUSTER2_GW_ADDR}`. */
export type Variables = Readonly<Record<string, string>>;

/** Node port of 15443 at every ingress gateway. */
export const gatewayNodePort = 31443;
/** Cluster addresses of the gateways' Services. The first 256 are the system's own. */
export const gatewayClusterIp = "10.96.0.10";
export const egressClusterIp = "10.96.0.11";
/** The egress gateway's own name, and the one that it has in manifests that people bring along. */
export const egressHostnames = [
  "isthmus-egressgateway.isthmus-system.svc.cluster.local",
  "istio-egressgateway.istio-system.svc.cluster.local",
];

/** The name under which other clusters find a gateway by DNS. `.test` is nobody's (RFC 6761 §6.2). */
export function gatewayHostname(cluster: string): string {
  return `ingress.${cluster}.test`;
}

/** The variables of all clusters, in the order in which they are numbered from 1. */
export function labVariables(clusters: readonly string[]): Variables {
  const all: Record<string, string> = {};
  clusters.forEach((cluster, position) => {
    const plan = addressPlan(position + 1);
    const prefix = cluster.toUpperCase().replaceAll(/[^A-Z0-9]/g, "_");
    all[`${prefix}_GW_ADDR`] = plan.gateway;
    all[`${prefix}_GW_HOST`] = gatewayHostname(cluster);
    all[`${prefix}_EGW_ADDR`] = egressClusterIp;
    all[`${prefix}_NODE_ADDR`] = plan.node;
    all[`${prefix}_NODE_PORT`] = String(gatewayNodePort);
  });
  return all;
}

/** The text with every variable's value in its place, lines unmoved; and the names that nobody knows. */
export function substitute(
  text: string,
  variables: Variables,
): { readonly text: string; readonly unknown: readonly string[] } {
  const unknown = new Set<string>();
  const filled = text.replaceAll(/\$\{([A-Z][A-Z0-9_]*)\}/g, (whole, name: string) => {
    const value = variables[name];
    if (value === undefined) unknown.add(name);
    return value ?? whole;
  });
  return { text: filled, unknown: [...unknown] };
}

export function hintFor(variables: Variables): string {
  return `there is ${Object.keys(variables).join(", ")}`;
}
