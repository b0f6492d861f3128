/** A port at a gateway's outside address and the pod's own port that takes it, as a load balancer in front would have it. */
export interface OuterPort {
  readonly port: number;
  readonly to: number;
}

/** The rules of a gateway's pod, table nat: ports that stand in no Service are reached as they are. */
export function outerRules(ports: readonly OuterPort[]): string {
  return [
    "*nat",
    ":PREROUTING ACCEPT [0:0]",
    ...ports.map(({ port, to }) => `-A PREROUTING -i wan0 -p tcp --dport ${port} -j REDIRECT --to-ports ${to}`),
    "COMMIT",
    "",
  ].join("\n");
}

/** What the router of one cluster lets through and rewrites. Pod and service ranges never show outside. */
export interface RouterOptions {
  readonly podCidr: string;
  /** Addresses of services: one that nobody stands behind is refused at once, as a node's packet filter does. */
  readonly serviceCidr: string;
  /** Port of the cluster's outside address to a pod's `ip:port`: node ports. */
  readonly nodePorts: readonly { readonly port: number; readonly to: string }[];
  /** Cluster addresses to the pods behind them, for pods that have no proxy. */
  readonly services: readonly {
    readonly ip: string;
    readonly port: number;
    readonly protocol: "tcp" | "udp";
    readonly to: readonly string[];
  }[];
}

/** The rules of a cluster's router: tables nat and filter. `br0` is the pods' side, `wan0` the outside. */
export function routerRules({ podCidr, serviceCidr, nodePorts, services }: RouterOptions): string {
  const spread = services.flatMap(({ ip, port, protocol, to }) =>
    to.map((target, index) => {
      const left = to.length - index;
      const share = left > 1 ? ` -m statistic --mode random --probability ${(1 / left).toFixed(6)}` : "";
      return `-A PREROUTING -i br0 -d ${ip}/32 -p ${protocol} --dport ${port}${share} -j DNAT --to-destination ${target}`;
    }),
  );
  return [
    "*nat",
    ":PREROUTING ACCEPT [0:0]",
    ":INPUT ACCEPT [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    ":POSTROUTING ACCEPT [0:0]",
    ...nodePorts.map(({ port, to }) => `-A PREROUTING -i wan0 -p tcp --dport ${port} -j DNAT --to-destination ${to}`),
    ...spread,
    "-A POSTROUTING -o wan0 -j MASQUERADE",
    // A reply must come back through here to be rewritten again, though both ends sit on one bridge.
    `-A POSTROUTING -o br0 -m conntrack --ctstate DNAT -j MASQUERADE`,
    "COMMIT",
    "*filter",
    ":INPUT ACCEPT [0:0]",
    ":FORWARD DROP [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    `-A FORWARD -i br0 -d ${serviceCidr} -p tcp -j REJECT --reject-with tcp-reset`,
    `-A FORWARD -i br0 -d ${serviceCidr} -j REJECT`,
    "-A FORWARD -i br0 -o br0 -j ACCEPT",
    `-A FORWARD -i br0 -s ${podCidr} -o wan0 -j ACCEPT`,
    "-A FORWARD -i wan0 -o br0 -m conntrack --ctstate DNAT -j ACCEPT",
    "COMMIT",
    "",
  ].join("\n");
}
