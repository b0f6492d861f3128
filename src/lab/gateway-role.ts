import { imageCommand } from "./images.ts";
import type { WantedPod } from "./workloads.ts";

export type GatewayRole = "ingress" | "egress";

/** Ports that a gateway may be reached at. */
export const gatewayPorts: readonly number[] = [15021, 8080, 8443, 15443];

/** On loopback: what the port is reserved as at which a cluster's gateway is found. */
export function gatewayPortName(index: number, role: GatewayRole, port: number): string {
  return `${index}/${role}/${port}`;
}

export function gatewayRole(wanted: WantedPod): GatewayRole | undefined {
  const isGateway = wanted.containers.some(
    ({ image }) => imageCommand({ image, port: 80, annotations: {} }).kind === "gateway",
  );
  if (!isGateway) return undefined;
  return wanted.labels["istio"] === "egressgateway" ? "egress" : "ingress";
}
