import type { Socket } from "node:net";
import { type Clock, explain, Failure, type Logger } from "../base/index.ts";
import type { Ip, SocketAddress } from "../values/index.ts";
import type { AccessLog, ResponseFlag } from "./l4/access-log.ts";
import type { Connection } from "./l4/connection.ts";
import { type ChainQuestion, chooseChain } from "./l4/filter-chain.ts";
import { type OriginalDestination, plainIp } from "./l4/original-dst.ts";
import { readProxyHeader } from "./l4/proxy-header.ts";
import { applicationProtocols, peek, type Sniffed, sniff, takeBytes } from "./l4/sniff.ts";
import type { Stop } from "./l4/stop.ts";
import { connectionRecord } from "./l4/tcp-proxy.ts";
import { findVirtual } from "./l4/virtual.ts";
import type { RunningChain, RunningListener } from "./listener.ts";
import type { TlsContexts } from "./tls/contexts.ts";
import { terminate } from "./tls/terminate.ts";

/** Why a connection was turned away before it reached a cluster. Each is a label of the counter. */
export type Refusal =
  | "filter_chain_not_found"
  | "no_server_name"
  | "unknown_server_name"
  | "plaintext"
  | "no_client_hello"
  | "slow_client_hello"
  | "bad_client_hello"
  | "closed_early"
  | "bad_proxy_header"
  | "tls"
  | "draining";

export interface InboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly contexts: TlsContexts;
  readonly originalDestination: OriginalDestination | undefined;
  /** Listeners without sockets, by address. */
  readonly virtual: () => ReadonlyMap<string, RunningListener>;
  readonly accessLog: (listener: RunningListener) => AccessLog | undefined;
  readonly refused: (listener: string, reason: Refusal) => void;
  readonly serve: (connection: Connection, chain: RunningChain, listener: RunningListener) => Promise<void>;
  readonly nextId: () => number;
}

/** A connection that found its chain. */
interface Settled {
  readonly listener: RunningListener;
  readonly chain: RunningChain;
  readonly sniffed: Sniffed | undefined;
}

/**
 * Takes one accepted connection through its listener: where did it mean to go, what does it speak, which chain is its
 * own, who is it; then it is served. Resolves when it is gone; never rejects.
 */
export async function handle(
  raw: Socket,
  { listener: first, signal }: { readonly listener: RunningListener; readonly signal: Stop },
  deps: InboundDeps,
): Promise<void> {
  const startedMs = deps.clock.now();
  const began = deps.clock.monotonic();
  const own = ownAddress(raw);
  const remote = remoteAddress(raw);
  // Gone before we looked.
  if (!own || !remote) {
    raw.destroy();
    deps.refused(first.config.name, "closed_early");
    return;
  }
  const restored = restore(raw, first, deps);
  await serveFrom(raw, {
    first,
    signal,
    deps,
    startedMs,
    began,
    remote,
    destination: restored ?? own,
    redirected: restored !== undefined,
  });
}

interface Arrived {
  readonly first: RunningListener;
  readonly signal: Stop;
  readonly deps: InboundDeps;
  readonly startedMs: number;
  readonly began: number;
  readonly remote: SocketAddress;
  readonly destination: SocketAddress;
  readonly redirected: boolean;
}

/** The same for a connection whose destination is known already (an explicit proxy's). */
export async function serveFrom(raw: Socket, arrived: Arrived): Promise<void> {
  const { first, signal, deps, startedMs, began } = arrived;
  let { remote, destination, redirected } = arrived;
  const refuse = (
    listener: RunningListener,
    about: {
      readonly reason: Refusal;
      readonly sentence: string;
      readonly flag: ResponseFlag;
      readonly sni?: string | undefined;
    },
  ) => {
    raw.destroy();
    deps.refused(listener.config.name, about.reason);
    deps.accessLog(listener)?.write(
      connectionRecord(
        { startedMs, listener: listener.config.name, remote, destination, sni: about.sni, tls: undefined },
        {
          durationMs: deps.clock.monotonic() - began,
          flags: [about.flag],
          details: about.flag === "NR" ? "filter_chain_not_found" : about.reason,
          termination: `${about.reason}: ${about.sentence}`,
        },
      ),
    );
  };
  const { filters } = first.config;
  const optional = filters.includes("proxy_protocol_optional");
  if (optional || filters.includes("proxy_protocol")) {
    const header = await peek({
      socket: raw,
      decide: (bytes) => {
        const read = readProxyHeader(bytes);
        return read.kind === "more" ? undefined : read;
      },
      timeoutMs: first.config.filtersTimeoutMs ?? 15_000,
      clock: deps.clock,
      signal,
    });
    const read = header.kind === "decided" ? header.value : undefined;
    if (read?.kind !== "header" && !(optional && read?.kind === "absent")) {
      const sentence =
        read?.kind === "wrong"
          ? read.reason
          : read?.kind === "absent"
            ? "no PROXY header"
            : "no whole PROXY header came";
      return refuse(first, { reason: "bad_proxy_header", sentence, flag: "DPE" });
    }
    if (read.kind === "header") takeBytes(raw, read.length);
    if (read.kind === "header" && read.carried) {
      remote = read.carried.source;
      destination = read.carried.destination;
      redirected = true;
    }
  }
  const listener =
    (first.config.handOver && redirected ? findVirtual(deps.virtual(), destination) : undefined) ?? first;
  const settled = await settle(raw, { listener, remote, destination, signal, deps });
  if ("reason" in settled) return refuse(listener, settled);
  const { chain, sniffed } = settled;
  if (chain.draining.aborted)
    return refuse(listener, { reason: "draining", sentence: "the listener goes away", flag: "LR" });
  const leave = chain.enter();
  const hello = sniffed?.kind === "tls" ? sniffed.hello : undefined;
  const { ending } = chain;
  try {
    const opened = chain.config.tls
      ? await terminate({ raw, hello, tls: chain.config.tls, contexts: deps.contexts, signal: ending })
      : undefined;
    const connection: Connection = {
      id: deps.nextId(),
      socket: opened?.socket ?? raw,
      remote,
      destination,
      redirected,
      listener: listener.config.name,
      tls: opened?.facts,
      sni: hello?.sni,
      startedMs,
      draining: chain.draining,
      signal: ending,
    };
    connection.socket.on("error", () => {});
    await deps.serve(connection, chain, listener);
  } catch (caught) {
    const failure = Failure.from(caught);
    if (!failure.code.startsWith("tls/"))
      deps.log.error({ listener: listener.config.name, err: caught }, "connection failed");
    refuse(listener, { reason: "tls", sentence: explain(failure), flag: "DPE", sni: hello?.sni });
  } finally {
    leave();
  }
}

/** Where the caller meant to go, as the kernel tells it; undefined when the connection was not redirected. */
function restore(raw: Socket, { config }: RunningListener, deps: InboundDeps): SocketAddress | undefined {
  if (!config.handOver && !config.filters.includes("original_dst")) return undefined;
  return deps.originalDestination?.(raw);
}

export function ownAddress(raw: Socket): SocketAddress | undefined {
  const ip = plainIp(raw.localAddress);
  return ip && raw.localPort !== undefined ? { ip, port: raw.localPort } : undefined;
}

export function remoteAddress(raw: Socket): SocketAddress | undefined {
  const ip: Ip | undefined = plainIp(raw.remoteAddress);
  return ip && raw.remotePort !== undefined ? { ip, port: raw.remotePort } : undefined;
}

interface NotSettled {
  readonly reason: Refusal;
  readonly sentence: string;
  readonly flag: ResponseFlag;
  readonly sni?: string | undefined;
}

/** Looks at the first bytes where the listener asks for it, and chooses the chain. */
async function settle(
  raw: Socket,
  about: {
    readonly listener: RunningListener;
    readonly remote: SocketAddress;
    readonly destination: SocketAddress;
    readonly signal: Stop;
    readonly deps: InboundDeps;
  },
): Promise<Settled | NotSettled> {
  const { listener, remote, destination, signal, deps } = about;
  const { config } = listener;
  const wanted = {
    tls:
      config.filters.includes("tls_inspector") ||
      config.chains.some(({ tls }) => tls) ||
      config.defaultChain?.tls !== undefined,
    http: config.filters.includes("http_inspector"),
  };
  let sniffed: Sniffed | undefined;
  if (wanted.tls || wanted.http) {
    sniffed = await sniff({ socket: raw, wanted, timeoutMs: config.filtersTimeoutMs, clock: deps.clock, signal });
    const refused = notTaken(sniffed, config.continueOnTimeout);
    if (refused) return refused;
  }
  const hello = sniffed?.kind === "tls" ? sniffed.hello : undefined;
  const question: ChainQuestion = {
    destination,
    source: remote,
    serverName: hello?.sni,
    transportProtocol: hello ? "tls" : "raw_buffer",
    applicationProtocols: sniffed ? applicationProtocols(sniffed) : [],
  };
  const found = chooseChain(config.chains, question);
  const chain = found ? listener.chains[config.chains.indexOf(found)] : listener.fallback;
  if (chain) return { listener, chain, sniffed };
  return noChain(
    config.chains.some(({ match }) => match.serverNames.length > 0),
    sniffed,
  );
}

/** First bytes with which it ends here, whatever the chains say. */
function notTaken(sniffed: Sniffed, continueOnTimeout: boolean): NotSettled | undefined {
  switch (sniffed.kind) {
    case "closed":
      return {
        reason: "closed_early",
        sentence: "the caller closed before it said anything that could be told apart",
        flag: "DC",
      };
    case "refused":
      return { reason: "bad_client_hello", sentence: helloSentences[sniffed.reason], flag: "DPE" };
    case "ended":
      return continueOnTimeout
        ? undefined
        : {
            reason: "closed_early",
            sentence: "the caller ended its side before its first bytes were whole",
            flag: "DC",
          };
    case "silent":
      return continueOnTimeout
        ? undefined
        : { reason: "no_client_hello", sentence: "the caller connected and said nothing in time", flag: "NR" };
    case "slow":
      return continueOnTimeout
        ? undefined
        : { reason: "slow_client_hello", sentence: "the caller's first bytes did not come whole in time", flag: "NR" };
    default:
      return undefined;
  }
}

const helloSentences = {
  sslv2: "the caller began with an SSLv2 hello",
  "too-old": "the caller offers no TLS version from 1.2 on",
  "too-large": "the caller's ClientHello is larger than any honest one",
  malformed: "the caller's ClientHello is malformed",
  "bad-server-name": "the caller's server name is no host name",
} as const;

function noChain(byName: boolean, sniffed: Sniffed | undefined): NotSettled {
  if (!byName || !sniffed)
    return { reason: "filter_chain_not_found", sentence: "no filter chain takes this connection", flag: "NR" };
  if (sniffed.kind !== "tls")
    return {
      reason: "plaintext",
      sentence: "the caller speaks no TLS, and this port routes by TLS server name",
      flag: "NR",
    };
  const { sni } = sniffed.hello;
  if (sni === undefined)
    return {
      reason: "no_server_name",
      sentence: "the ClientHello names no server, and this port routes by it",
      flag: "NR",
    };
  return { reason: "unknown_server_name", sentence: `server name "${sni}" is not exposed here`, flag: "NR", sni };
}
