import { documents } from "../resources/index.ts";
import type { Labels } from "../values/index.ts";

/** What a gateway makes of `x-forwarded-client-cert`, in the words of Istio's `gatewayTopology` and of Envoy. */
export const forwardPolicies = [
  "SANITIZE",
  "FORWARD_ONLY",
  "APPEND_FORWARD",
  "SANITIZE_SET",
  "ALWAYS_FORWARD_ONLY",
] as const;
export type ForwardPolicy = (typeof forwardPolicies)[number];

const annotation = "proxy.istio.io/config";

/** What a Pod's annotation says of the proxies before it; undefined where it says nothing that is known. */
export function forwardPolicyOf(annotations: Labels): ForwardPolicy | undefined {
  const written = annotations[annotation];
  if (written === undefined || written.length > 65_536) return undefined;
  const [config] = documents(written);
  const topology = (config?.value as { readonly gatewayTopology?: unknown } | undefined)?.gatewayTopology;
  const said = (topology as { readonly forwardClientCertDetails?: unknown } | undefined)?.forwardClientCertDetails;
  return forwardPolicies.find((one) => one === said);
}
