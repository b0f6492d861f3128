import { ipFamily, parseCidr } from "../../values/index.ts";

/** Who the proxy runs as: what it sends is not captured again. */
export const proxyUid = 1337;

/** Which connections of a pod go to its proxy. */
export interface CaptureOptions {
  /** Rules of the one protocol know nothing of addresses of the other. */
  readonly family: 4 | 6;
  /**
   * `owner`: everything but the proxy's own traffic, told apart by who owns the socket. `ranges`: only what goes to
   * `cidrs`, where owners cannot be told apart; the proxy itself connects to pods and gateways, never to these ranges.
   */
  readonly outbound:
    | OwnerCapture
    | { readonly by: "ranges"; readonly cidrs: readonly string[]; readonly excludeCidrs?: readonly string[] };
  readonly inbound: {
    /** Ports that callers reach through the proxy: these alone, and then the others below do not count. */
    readonly ports: "all" | readonly number[];
    /** Ports that callers reach without the proxy, beside those of the proxy itself and of ssh. */
    readonly exclude: readonly number[];
  };
  /** Whose questions the proxy answers in their place, of those to port 53: of all name servers, or of these. */
  readonly dns: "off" | "all" | readonly string[];
}

export interface OwnerCapture {
  readonly by: "owner";
  /** Ranges that are captured. */
  readonly cidrs: "all" | readonly string[];
  /** Ports that are captured in whatever range. */
  readonly ports?: readonly number[];
  readonly excludeCidrs?: readonly string[];
  readonly excludePorts?: readonly number[];
  /** Interfaces by which virtual machines in the pod send: what comes in there is on its way out. */
  readonly interfaces?: readonly string[];
  /** The proxy's; 1337 unless told otherwise. */
  readonly uid?: number;
  readonly gid?: number;
}

/** The proxy's own ports for health and metrics answer as themselves; ssh is a person's way in when all else fails. */
const neverInbound = [22, 15020, 15021, 15090];

/** Our chains, as far as rules of somebody else's chains lead to them. */
export const captureChains = [
  "ISTHMUS_REDIRECT",
  "ISTHMUS_IN_REDIRECT",
  "ISTHMUS_INBOUND",
  "ISTHMUS_OUTPUT",
  "ISTHMUS_DNS",
  "ISTHMUS_VIRTUAL",
] as const;

/** The rules of one pod's network namespace in the form that `iptables-restore` reads, table nat: all that is to stand there. */
export function captureRules(options: CaptureOptions): string {
  return ["*nat", ...builtInChains, ...chainLines, ...ruleLines(options), "COMMIT", ""].join("\n");
}

/**
 * The same to be put beside rules of others (`iptables-restore --noflush`): our chains are made anew, and the jumps to
 * them that stand in `saved`, the table as `iptables-save` prints it, are replaced. All at once, or nothing.
 */
export function captureUpdate(options: CaptureOptions, saved: string): string {
  const jump = new RegExp(`^-A (PREROUTING|OUTPUT) .*-j (${captureChains.join("|")})$`);
  const stale = saved
    .split("\n")
    .filter((line) => jump.test(line))
    .map((line) => line.replace(/^-A /, "-D "));
  return ["*nat", ...chainLines, ...stale, ...ruleLines(options), "COMMIT", ""].join("\n");
}

/** How many rules of each chain there are to be, for who reads them back. Those of PREROUTING and OUTPUT are the jumps. */
export function countRules(text: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const [, chain, rest] of text.matchAll(/^-A (\S+) (.*)$/gm)) {
    const ours = (captureChains as readonly string[]).includes(chain!);
    const counted = ours || captureChains.some((name) => rest!.endsWith(`-j ${name}`));
    if (counted) counts.set(chain!, (counts.get(chain!) ?? 0) + 1);
  }
  return counts;
}

const builtInChains = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"].map((chain) => `:${chain} ACCEPT [0:0]`);
const chainLines = captureChains.map((chain) => `:${chain} - [0:0]`);

function ruleLines(options: CaptureOptions): readonly string[] {
  return [
    "-A ISTHMUS_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
    "-A ISTHMUS_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006",
    ...interfaceRules(options),
    "-A PREROUTING -p tcp -j ISTHMUS_INBOUND",
    ...inboundRules(options.inbound),
    ...dnsRules(options),
    "-A OUTPUT -p tcp -j ISTHMUS_OUTPUT",
    ...outputRules(options),
  ];
}

function inboundRules({ ports, exclude }: CaptureOptions["inbound"]): readonly string[] {
  const rule = (port: number, target: string) => `-A ISTHMUS_INBOUND -p tcp --dport ${port} -j ${target}`;
  if (ports !== "all") return ports.map((port) => rule(port, "ISTHMUS_IN_REDIRECT"));
  return [
    ...[...new Set([...neverInbound, ...exclude])].map((port) => rule(port, "RETURN")),
    "-A ISTHMUS_INBOUND -p tcp -j ISTHMUS_IN_REDIRECT",
  ];
}

function dnsRules({ family, outbound, dns }: CaptureOptions): readonly string[] {
  if (dns === "off") return [];
  const own = [
    "-A OUTPUT -p udp --dport 53 -j ISTHMUS_DNS",
    "-A OUTPUT -p tcp --dport 53 -j ISTHMUS_DNS",
    ...(outbound.by === "owner" ? owners(outbound).map((owner) => `-A ISTHMUS_DNS -m owner ${owner} -j RETURN`) : []),
  ];
  // Where owners cannot be told apart the pod's resolver is set to loopback, so that the proxy's own questions pass by.
  const servers = outbound.by === "ranges" ? [loopbackOf(family)] : dns === "all" ? [undefined] : ofFamily(dns, family);
  const redirects = servers.flatMap((server) =>
    ["udp", "tcp"].map(
      (protocol) =>
        `-A ISTHMUS_DNS${server === undefined ? "" : ` -d ${server}`} -p ${protocol} -j REDIRECT --to-ports 15053`,
    ),
  );
  return [...own, ...redirects, ...(outbound.by === "ranges" ? ["-A ISTHMUS_DNS -j RETURN"] : [])];
}

/** What virtual machines send comes in by an interface of the pod, with no owner. */
function interfaceRules({ outbound, family }: CaptureOptions): readonly string[] {
  if (outbound.by === "ranges" || !outbound.interfaces?.length) return [];
  const { interfaces, excludeCidrs = [], excludePorts = [], cidrs } = outbound;
  return [
    ...interfaces.map((name) => `-A PREROUTING -i ${name} -j ISTHMUS_VIRTUAL`),
    ...excludePorts.map((port) => `-A ISTHMUS_VIRTUAL -p tcp --dport ${port} -j ACCEPT`),
    ...ofFamily(excludeCidrs, family).map((cidr) => `-A ISTHMUS_VIRTUAL -d ${cidr} -j ACCEPT`),
    ...(cidrs === "all" ? [""] : ofFamily(cidrs, family).map((cidr) => ` -d ${cidr}`)).map(
      (to) => `-A ISTHMUS_VIRTUAL${to} -p tcp -j ISTHMUS_REDIRECT`,
    ),
    // Not on to what is for callers of the pod.
    "-A ISTHMUS_VIRTUAL -j ACCEPT",
  ];
}

function owners({ uid = proxyUid, gid = proxyUid }: OwnerCapture): readonly string[] {
  return [`--uid-owner ${uid}`, `--gid-owner ${gid}`];
}

function outputRules({ outbound, family }: CaptureOptions): readonly string[] {
  const excluded = ofFamily(outbound.excludeCidrs ?? [], family).map(
    (cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -j RETURN`,
  );
  if (outbound.by === "ranges") {
    return [
      ...excluded,
      ...ofFamily(outbound.cidrs, family).map((cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -p tcp -j ISTHMUS_REDIRECT`),
    ];
  }
  const { uid = proxyUid, gid = proxyUid, cidrs, ports = [], excludePorts = [] } = outbound;
  const loopback = loopbackOf(family);
  const passed = family === 4 ? "127.0.0.6/32" : "::6/128";
  return [
    ...excludePorts.map((port) => `-A ISTHMUS_OUTPUT -p tcp --dport ${port} -j RETURN`),
    // What the proxy forwards to the application under this source address has been through the inbound side already.
    `-A ISTHMUS_OUTPUT -o lo -s ${passed} -j RETURN`,
    // An application that calls its own service comes back through the inbound side, like any other caller.
    ...owners(outbound).map(
      (owner) => `-A ISTHMUS_OUTPUT -o lo ! -d ${loopback} -p tcp -m owner ${owner} -j ISTHMUS_IN_REDIRECT`,
    ),
    // From here on each owner is a test of both: a socket is the application's only if neither number is the proxy's.
    `-A ISTHMUS_OUTPUT -o lo -m owner ! --uid-owner ${uid} -m owner ! --gid-owner ${gid} -j RETURN`,
    ...owners(outbound).map((owner) => `-A ISTHMUS_OUTPUT -m owner ${owner} -j RETURN`),
    `-A ISTHMUS_OUTPUT -d ${loopback} -j RETURN`,
    ...excluded,
    ...ports.map((port) => `-A ISTHMUS_OUTPUT -p tcp --dport ${port} -j ISTHMUS_REDIRECT`),
    ...(cidrs === "all"
      ? ["-A ISTHMUS_OUTPUT -j ISTHMUS_REDIRECT"]
      : ofFamily(cidrs, family).map((cidr) => `-A ISTHMUS_OUTPUT -d ${cidr} -j ISTHMUS_REDIRECT`)),
  ];
}

function ofFamily(ranges: readonly string[], family: 4 | 6): readonly string[] {
  return ranges.filter((range) => {
    const cidr = parseCidr(range);
    return cidr !== undefined && ipFamily(cidr.ip) === family;
  });
}

function loopbackOf(family: 4 | 6): string {
  return family === 4 ? "127.0.0.1/32" : "::1/128";
}
