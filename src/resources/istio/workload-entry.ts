import { z } from "zod";
import { type Hostname, type Ip, parseHostname, parseIp, parseLocality } from "../../values/index.ts";
import { count, labelMap, parsed, rule, text, whole } from "../schema.ts";

/** Where an endpoint is: a number, a name to be resolved, or a socket on the same machine (`@` begins an abstract one). */
export type EndpointAddress =
  | { readonly kind: "ip"; readonly ip: Ip }
  | { readonly kind: "hostname"; readonly hostname: Hostname }
  | { readonly kind: "unix"; readonly path: string };

export function parseEndpointAddress(written: string): EndpointAddress | undefined {
  if (written.startsWith("unix://")) {
    const path = written.slice("unix://".length);
    const abstract = path.startsWith("@") && path.length > 1;
    return abstract || (path.startsWith("/") && !path.endsWith("/")) ? { kind: "unix", path } : undefined;
  }
  const ip = parseIp(written);
  if (ip) return { kind: "ip", ip };
  const hostname = parseHostname(written);
  return hostname && !hostname.startsWith("*") ? { kind: "hostname", hostname } : undefined;
}

/** What a ServiceEntry's endpoint and a WorkloadEntry have in common. */
const endpointFields = {
  /** Absent only when `network` is set: then the network's gateway is meant. */
  address: parsed(
    'an IP address, a DNS name without wildcard, or "unix:///absolute/path"',
    "ISM0311",
    parseEndpointAddress,
  ).optional(),
  /** From the name of a service port to the port at this endpoint. */
  ports: z.record(z.string(), whole(1, 65535)).default({}),
  labels: labelMap.default({}),
  network: text.default(""),
  locality: z.string().transform(parseLocality).optional(),
  /** 0 and absent mean 1. */
  weight: count.transform((weight) => weight || 1).default(1),
  serviceAccount: text.default(""),
};

export const endpoint = rule(z.strictObject(endpointFields), ["address", "network", "ports"], (value, report) => {
  const unix = value.address?.kind === "unix";
  if (value.address === undefined && value.network === "")
    report(["address"], "ISM0302", "is required, unless a network is named whose gateway is meant");
  if (unix && Object.keys(value.ports).length > 0)
    report(["ports"], "ISM0412", "a unix socket has no ports; leave them out");
});

/** Only a ServiceEntry knows its ports' names; for an entry on its own a number is the likeliest mistake. */
const spec = rule(endpoint, ["ports"], (value, report) => {
  for (const name of Object.keys(value.ports))
    if (/^\d+$/.test(name))
      report(["ports", name], "ISM0411", `must be keyed by the name of a service port; write the name of port ${name}`);
});

export const workloadEntry = z.object({ spec, status: z.unknown().optional() });
