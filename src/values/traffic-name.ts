/** What `outbound|8000|v2|httpbin.bar.global` says. The port is always the service's, never the endpoint's. */
export interface TrafficName {
  readonly direction: "outbound" | "inbound";
  readonly port: number;
  readonly subset: string;
  readonly host: string;
  /** Set where a port has a cluster for HTTP beside the one for whatever else is spoken there. */
  readonly http?: true;
}

/** The name of a cluster: `outbound|8000||httpbin.bar.global`; the one for HTTP of such a port ends in `|http`. */
export function clusterName({ direction, port, subset, host, http }: TrafficName): string {
  return `${direction}|${port}|${subset}|${host}${http ? "|http" : ""}`;
}

/** The same as a TLS server name, whatever is spoken within: `outbound_.8000_._.httpbin.bar.global`. */
export function sniName({ direction, port, subset, host }: TrafficName): string {
  return `${direction}_.${port}_.${subset}_.${host}`;
}

export function outbound(host: string, port: number, subset = ""): TrafficName {
  return { direction: "outbound", port, subset, host };
}

export function parseClusterName(text: string): TrafficName | undefined {
  const parts = text.split("|");
  const http = parts.length === 5 && parts[4] === "http";
  const found = fromParts(http ? parts.slice(0, 4) : parts);
  return found && http ? { ...found, http } : found;
}

/** Splits at the first three dots; each of the first three parts ends in an underscore. */
export function parseSniName(text: string): TrafficName | undefined {
  const match = /^([^.]*)_\.([^.]*)_\.([^.]*)_\.(.+)$/.exec(text);
  return match ? fromParts(match.slice(1)) : undefined;
}

function fromParts(parts: readonly string[]): TrafficName | undefined {
  const [direction, port, subset, host, ...rest] = parts;
  if ((direction !== "outbound" && direction !== "inbound") || rest.length > 0) return undefined;
  if (port === undefined || subset === undefined || host === undefined || !/^\d{1,5}$/.test(port)) return undefined;
  return { direction, port: Number(port), subset, host };
}
