import { cidrContains, type SocketAddress } from "../../values/index.ts";
import type { ChainConfig } from "../config/listener.ts";

/** What is known of a connection when its chain is chosen. */
export interface ChainQuestion {
  readonly destination: SocketAddress;
  readonly source: SocketAddress;
  /** Lower case; undefined when there is none. */
  readonly serverName: string | undefined;
  readonly transportProtocol: "tls" | "raw_buffer";
  /** From the ClientHello, or what the first bytes look like (`http/1.1`, `h2c`). */
  readonly applicationProtocols: readonly string[];
}

/**
 * The chain for a connection. Envoy's order: destination port, destination range, server name, transport protocol,
 * application protocols, source type, source range, source port. At each step the most specific match keeps the
 * chains that have it and drops all others; there is no way back to a less specific one.
 */
export function chooseChain(chains: readonly ChainConfig[], question: ChainQuestion): ChainConfig | undefined {
  let left = narrow(chains, ({ match }) =>
    match.destinationPort === undefined ? 0 : match.destinationPort === question.destination.port ? 1 : none,
  );
  left = narrow(left, ({ match }) => longestPrefix(match.prefixRanges, question.destination));
  left = narrow(left, ({ match }) => nameScore(match.serverNames, question.serverName));
  left = narrow(left, ({ match }) =>
    match.transportProtocol === undefined ? 0 : match.transportProtocol === question.transportProtocol ? 1 : none,
  );
  left = narrow(left, ({ match }) => protocolScore(match.applicationProtocols, question.applicationProtocols));
  const local = isLocal(question);
  left = narrow(left, ({ match }) =>
    match.sourceType === "any" ? 0 : (match.sourceType === "local") === local ? 1 : none,
  );
  left = narrow(left, ({ match }) => longestPrefix(match.sourceRanges, question.source));
  left = narrow(left, ({ match }) =>
    match.sourcePorts.length === 0 ? 0 : match.sourcePorts.includes(question.source.port) ? 1 : none,
  );
  return left[0];
}

/** Does not match at all. */
const none = -1;

/** The chains with the highest score; those that do not match are out. */
function narrow(chains: readonly ChainConfig[], score: (chain: ChainConfig) => number): readonly ChainConfig[] {
  let best = none;
  let kept: ChainConfig[] = [];
  for (const chain of chains) {
    const value = score(chain);
    if (value === none || value < best) continue;
    if (value > best) {
      best = value;
      kept = [];
    }
    kept.push(chain);
  }
  return kept;
}

/** 1 + length of the longest range that holds the address; 0 when nothing is asked. */
function longestPrefix(ranges: ChainConfig["match"]["prefixRanges"], address: SocketAddress): number {
  if (ranges.length === 0) return 0;
  let longest = none;
  for (const range of ranges) if (cidrContains(range, address.ip)) longest = Math.max(longest, 1 + range.prefix);
  return longest;
}

/** An exact name beats every wildcard, a longer wildcard a shorter one. */
function nameScore(names: readonly string[], asked: string | undefined): number {
  if (names.length === 0) return 0;
  if (asked === undefined) return none;
  let best = none;
  for (const name of names) {
    if (name === asked) return 1000;
    if (name.startsWith("*.") && asked.endsWith(name.slice(1))) best = Math.max(best, name.length);
  }
  return best;
}

/** The client's order counts: its first protocol that some chain asks for wins over its later ones. */
function protocolScore(wanted: readonly string[], offered: readonly string[]): number {
  if (wanted.length === 0) return 0;
  const index = offered.findIndex((protocol) => wanted.includes(protocol));
  return index < 0 ? none : offered.length - index;
}

function isLocal({ source, destination }: ChainQuestion): boolean {
  return source.ip === destination.ip || source.ip.startsWith("127.") || source.ip === "::1";
}
