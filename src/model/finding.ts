import type { Origin } from "../values/index.ts";

/** Something suspicious in what people wrote: each object by itself is well-formed, together they do not do what they seem to. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: "error" | "warning";
  readonly origin: Origin;
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

/** Every code, with what it means; docs/errors.md lists the same. */
export const findingCodes = {
  "mesh/address-conflict": "two services want one virtual address; the older keeps it",
  "mesh/addresses-exhausted": "no automatic virtual address is left",
  "mesh/host-conflict": "two objects declare one host; the older wins",
  "mesh/no-endpoints": "a service has no endpoint that could answer",
  "mesh/view-hides-endpoints": "every endpoint is on another network, which ordinary proxies do not see",
  "mesh/egress-gateway-away": "calls leave by an egress gateway that is not there, so they fail",
  "mesh/port-name-unknown": "an endpoint maps a port name that the entry does not have",
  "mesh/mtls-off": "a rule turns mutual TLS off for a host of another cluster",
  "mesh/subset-unknown": "a route names a subset that no rule defines",
  "mesh/subset-empty": "a subset selects no endpoint",
  "mesh/subset-conflict": "two rules define one subset differently",
  "mesh/destination-unknown": "a route names a host that nobody declares",
  "mesh/port-unknown": "a route names a port that its host does not have",
  "mesh/delegate-unknown": "a rule hands its requests to a VirtualService that does not exist or is not exported to it",
  "mesh/delegate-unreachable": "a delegate's rule matches nothing of what is handed to it",
  "mesh/delegate-unused": "a VirtualService has no hosts and nobody delegates to it",
  "mesh/gateway-unknown": "a VirtualService is bound to a gateway that does not exist",
  "mesh/gateway-duplicate": "two Gateways claim one port and host of one workload; the older keeps it",
  "mesh/gateway-proxy-protocol": "two Gateways of one port disagree about the PROXY protocol; the older is followed",
  "mesh/gateway-unsupported": "a Gateway server asks for what a gateway here does not do",
  "mesh/rule-shadowed": "two DestinationRules for one host set a policy; the older one's is used",
  "mesh/gateway-port-conflict":
    "two Gateway servers want one port of one workload for different things; the older keeps it",
  "mesh/secret-missing": "a Gateway names a Secret that is not in the namespace of the gateway's pods",
  "mesh/secret-unusable": "a Secret that a Gateway names cannot be used; the last good one stays",
  "mesh/certificate-missing": "a gateway server terminates TLS without a certificate",
} as const;

export type FindingCode = keyof typeof findingCodes;

export function finding(
  code: FindingCode,
  rest: Omit<Finding, "code" | "severity"> & { readonly severity?: Finding["severity"] },
): Finding {
  return Object.freeze({ severity: "warning", ...rest, code });
}
