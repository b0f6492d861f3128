/** Who the proxy runs as: what it sends is not captured again. */
export const proxyUid = 1337;

/** Which connections of a pod go to its proxy. */
export interface CaptureOptions {
  /**
   * `owner`: everything but the proxy's own traffic, told apart by who owns the socket. `ranges`: only what goes to
   * `cidrs`, where owners cannot be told apart; the proxy itself connects to pods and gateways, never to these ranges.
   */
  readonly outbound:
    | { readonly by: "owner"; readonly excludeCidrs?: readonly string[]; readonly excludePorts?: readonly number[] }
    | { readonly by: "ranges"; readonly cidrs: readonly string[]; readonly excludeCidrs?: readonly string[] };
  /** Ports of the pod that callers reach without the proxy. */
  readonly excludeInboundPorts?: readonly number[];
  /** Whether questions to port 53 are answered by the proxy. */
  readonly dns: boolean;
}

/** The rules of one pod's network namespace in the form that `iptables-restore` reads, table nat. */
export function captureRules(options: CaptureOptions): string {
  const { outbound } = options;
  const lines = [
    "*nat",
    ":PREROUTING ACCEPT [0:0]",
    ":INPUT ACCEPT [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    ":POSTROUTING ACCEPT [0:0]",
    ":ISTHMUS_REDIRECT - [0:0]",
    ":ISTHMUS_IN_REDIRECT - [0:0]",
    ":ISTHMUS_INBOUND - [0:0]",
    ":ISTHMUS_OUTPUT - [0:0]",
    ":ISTHMUS_DNS - [0:0]",
    "-A ISTHMUS_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
    "-A ISTHMUS_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006",
    "-A PREROUTING -p tcp -j ISTHMUS_INBOUND",
    // The proxy's own ports for health and metrics answer as themselves; ssh is a person's way in when all else fails.
    ...[22, 15020, 15021, 15090, ...(options.excludeInboundPorts ?? [])].map(
      (port) => `-A ISTHMUS_INBOUND -p tcp --dport ${port} -j RETURN`,
    ),
    "-A ISTHMUS_INBOUND -p tcp -j ISTHMUS_IN_REDIRECT",
  ];
  if (options.dns) {
    lines.push("-A OUTPUT -p udp --dport 53 -j ISTHMUS_DNS", "-A OUTPUT -p tcp --dport 53 -j ISTHMUS_DNS");
    if (outbound.by === "owner") {
      lines.push(
        `-A ISTHMUS_DNS -m owner --uid-owner ${proxyUid} -j RETURN`,
        `-A ISTHMUS_DNS -m owner --gid-owner ${proxyUid} -j RETURN`,
        "-A ISTHMUS_DNS -p udp -j REDIRECT --to-ports 15053",
        "-A ISTHMUS_DNS -p tcp -j REDIRECT --to-ports 15053",
      );
    } else {
      // The pod's resolver is set to loopback, so that the proxy's own questions, which go further, pass by.
      lines.push(
        "-A ISTHMUS_DNS -d 127.0.0.1/32 -p udp -j REDIRECT --to-ports 15053",
        "-A ISTHMUS_DNS -d 127.0.0.1/32 -p tcp -j REDIRECT --to-ports 15053",
        "-A ISTHMUS_DNS -j RETURN",
      );
    }
  }
  lines.push("-A OUTPUT -p tcp -j ISTHMUS_OUTPUT", ...outputRules(outbound), "COMMIT", "");
  return lines.join("\n");
}

function outputRules(outbound: CaptureOptions["outbound"]): readonly string[] {
  if (outbound.by === "ranges") {
    return [
      ...(outbound.excludeCidrs ?? []).map((cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -j RETURN`),
      ...outbound.cidrs.map((cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -p tcp -j ISTHMUS_REDIRECT`),
    ];
  }
  const owners = [`--uid-owner ${proxyUid}`, `--gid-owner ${proxyUid}`];
  return [
    ...(outbound.excludePorts ?? []).map((port) => `-A ISTHMUS_OUTPUT -p tcp --dport ${port} -j RETURN`),
    // What the proxy forwards to the application under this source address has been through the inbound side already.
    "-A ISTHMUS_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN",
    ...owners.flatMap((owner) => [
      // An application that calls its own service comes back through the inbound side, like any other caller.
      `-A ISTHMUS_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp -m owner ${owner} -j ISTHMUS_IN_REDIRECT`,
    ]),
    // From here on each owner is a test of both: a socket is the application's only if neither number is the proxy's.
    `-A ISTHMUS_OUTPUT -o lo -m owner ! --uid-owner ${proxyUid} -m owner ! --gid-owner ${proxyUid} -j RETURN`,
    ...owners.map((owner) => `-A ISTHMUS_OUTPUT -m owner ${owner} -j RETURN`),
    "-A ISTHMUS_OUTPUT -d 127.0.0.1/32 -j RETURN",
    ...(outbound.excludeCidrs ?? []).map((cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -j RETURN`),
    "-A ISTHMUS_OUTPUT -j ISTHMUS_REDIRECT",
  ];
}

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
