import {
  apiServerIp,
  apiServerPort,
  kubeletListenPort,
  kubeletPort,
  outsideAddresses,
  outsideIp,
  podCidr,
  serviceCidr,
} from "./addresses.ts";

/** One port of a Service and those who answer on it. */
export interface ServedPort {
  readonly protocol: "tcp" | "udp";
  /** Where it is called: cluster addresses, load balancers', node ports. */
  readonly at: readonly { readonly ip: string; readonly port: number }[];
  /** `ip:port` of those that are ready. */
  readonly endpoints: readonly string[];
}

/**
 * The packet filter of a cluster's router, as `iptables-restore` reads it: what kube-proxy does on every machine.
 * Connections that stand keep their way when it is loaded again. `br0` is the pods' side, `wan0` the outside.
 */
export function serviceRules(options: { readonly index: number; readonly services: readonly ServedPort[] }): string {
  const { node } = outsideAddresses(options.index);
  const served = options.services.filter(({ endpoints }) => endpoints.length > 0);
  const pods = new Set(served.flatMap(({ endpoints }) => endpoints.map((target) => target.split(":")[0]!)));
  return [
    "*nat",
    ":PREROUTING ACCEPT [0:0]",
    ":INPUT ACCEPT [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    ":POSTROUTING ACCEPT [0:0]",
    ...served.map((_, number) => `:SERVED-${number} - [0:0]`),
    `-A PREROUTING -d ${node}/32 -p tcp --dport ${apiServerPort} -j DNAT --to-destination ${apiServerIp}:${apiServerPort}`,
    `-A PREROUTING -d ${node}/32 -p tcp --dport ${kubeletPort} -j DNAT --to-destination ${outsideIp}:${kubeletListenPort(options.index)}`,
    ...served.flatMap(({ at, protocol }, number) =>
      at.map(({ ip, port }) => `-A PREROUTING -d ${ip}/32 -p ${protocol} --dport ${port} -j SERVED-${number}`),
    ),
    ...served.flatMap(({ endpoints, protocol }, number) =>
      endpoints.map((target, at) => {
        const left = endpoints.length - at;
        const share = left > 1 ? ` -m statistic --mode random --probability ${(1 / left).toFixed(6)}` : "";
        return `-A SERVED-${number} -p ${protocol}${share} -j DNAT --to-destination ${target}`;
      }),
    ),
    "-A POSTROUTING -o wan0 -j MASQUERADE",
    // Who calls a Service and is sent to itself would answer itself without coming back through here.
    ...[...pods].map((ip) => `-A POSTROUTING -o br0 -s ${ip}/32 -d ${ip}/32 -j MASQUERADE`),
    "COMMIT",
    "*filter",
    ":INPUT ACCEPT [0:0]",
    ":FORWARD DROP [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    // A service that nobody stands behind is refused at once, as a machine's packet filter does.
    `-A FORWARD -i br0 -d ${serviceCidr} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A FORWARD -i br0 -d ${serviceCidr} -j REJECT`,
    "-A FORWARD -i br0 -o br0 -j ACCEPT",
    `-A FORWARD -i br0 -s ${podCidr} -o wan0 -j ACCEPT`,
    "-A FORWARD -i wan0 -o br0 -m conntrack --ctstate DNAT -j ACCEPT",
    "COMMIT",
    "",
  ].join("\n");
}
