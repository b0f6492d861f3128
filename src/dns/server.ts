import { setMaxListeners } from "node:events";
import { type Cell, type Clock, type Counter, Failure, type Logger, type Metrics, type Scope } from "../base/index.ts";
import { formatSocketAddress, type SocketAddress } from "../values/index.ts";
import { errorReply, type Outcome, respond, truncatedReply } from "./answer.ts";
import { Forwarder, type ForwardOptions } from "./forward.ts";
import type { Answerer } from "./listen.ts";
import { type Query, rcodes, udpLimit } from "./packet.ts";
import { serveTcp } from "./tcp.ts";
import { serveUdp } from "./udp.ts";
import type { Zone } from "./zone.ts";

export interface DnsServerDeps {
  /** Each is served over UDP and TCP. Port 0 takes a free one, the same for both. */
  readonly listen: readonly SocketAddress[];
  /** Read anew for each query: a change holds from the next one on. */
  readonly zone: Cell<Zone>;
  /** Who is asked about names that are not ours; without, such questions are refused. */
  readonly forward?: ForwardOptions;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

export interface DnsServer {
  /** Where it listens, ports filled in, in the order of `listen`. */
  readonly addresses: readonly SocketAddress[];
}

/**
 * Up when every address is bound over UDP and TCP. Rejects with `Failure` `dns/listen-failed`, nothing left open, when
 * one is not to be had. What goes wrong after that is counted and logged, and ends nothing.
 */
export async function startDnsServer(deps: DnsServerDeps, scope: Scope): Promise<DnsServer> {
  const { log, metrics, clock } = deps;
  const own = scope.child();
  // Every question that waits listens for the end.
  setMaxListeners(0, own.signal);
  const forward = deps.forward && withoutOurselves(deps.forward, deps);
  const forwarder =
    forward && forward.servers.length > 0 ? new Forwarder(forward, { clock, log, signal: own.signal }) : undefined;
  const answer = answerer({ deps, forwarder });
  const addresses: SocketAddress[] = [];
  try {
    for (const address of deps.listen)
      addresses.push(await serveBoth(address, { answer, log, clock, metrics, scope: own }));
  } catch (caught) {
    await own.close();
    throw caught;
  }
  log.info({ addresses: addresses.map(formatSocketAddress), forwarding: forwarder !== undefined }, "dns server bound");
  return { addresses };
}

/** A server that is asked by itself would ask itself. */
function withoutOurselves(forward: ForwardOptions, { listen, log }: DnsServerDeps): ForwardOptions {
  const ours = (server: SocketAddress) => listen.some((own) => own.ip === server.ip && own.port === server.port);
  for (const server of forward.servers.filter(ours)) {
    log.warn({ server: formatSocketAddress(server) }, "name server left out: it is this one");
  }
  return { ...forward, servers: forward.servers.filter((server) => !ours(server)) };
}

interface Serving {
  readonly answer: Answerer;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly scope: Scope;
}

/** How often another free port is looked for when TCP has the one that UDP got. */
const mostPortTries = 10;

async function serveBoth(address: SocketAddress, serving: Serving): Promise<SocketAddress> {
  for (let left = address.port === 0 ? mostPortTries : 1; ; left--) {
    const attempt = serving.scope.child();
    try {
      const port = await serveUdp(address, { ...serving, scope: attempt });
      await serveTcp({ ip: address.ip, port }, { ...serving, scope: attempt });
      return { ip: address.ip, port };
    } catch (caught) {
      await attempt.close();
      if (left <= 1 || Failure.from(caught).code !== "dns/listen-failed") throw caught;
    }
  }
}

type Counted = Outcome | "dropped" | "cached" | "forwarded" | "overloaded" | "upstream-failed";

/** Joins the zone, the forwarder and the limits of a transport into one answer for a query. */
function answerer(given: { readonly deps: DnsServerDeps; readonly forwarder: Forwarder | undefined }): Answerer {
  const { deps, forwarder } = given;
  const counter: Counter<"transport" | "outcome"> = deps.metrics.counter(
    "isthmus_dns_queries_total",
    "DNS queries by transport and by what became of them.",
    ["transport", "outcome"],
  );
  const counters = new Map<string, ReturnType<typeof counter.labels>>();
  const count = (transport: "udp" | "tcp", outcome: Counted) => {
    const key = transport + outcome;
    let child = counters.get(key);
    if (!child) {
      child = counter.labels(transport, outcome);
      counters.set(key, child);
    }
    child.inc();
  };
  const recursion = forwarder !== undefined;

  async function forward(request: Buffer, query: Query, transport: "udp" | "tcp"): Promise<Buffer> {
    const result = await forwarder!.ask(query, request);
    if (result.kind === "failed") {
      count(transport, result.why === "overloaded" ? "overloaded" : "upstream-failed");
      return errorReply(request, query, rcodes.servFail, recursion);
    }
    count(transport, result.from === "cache" ? "cached" : "forwarded");
    const tooLong = transport === "udp" && result.bytes.length > udpLimit(query.edns);
    return tooLong ? truncatedReply(request, query, recursion) : result.bytes;
  }

  return (request, transport) => {
    const response = respond(request, { zone: deps.zone.value, transport, recursion });
    switch (response.kind) {
      case "drop":
        count(transport, "dropped");
        return undefined;
      case "reply":
        count(transport, response.outcome);
        return response.bytes;
      case "forward":
        return forward(request, response.query, transport);
    }
  };
}
