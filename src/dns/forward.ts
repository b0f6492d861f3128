import { randomInt } from "node:crypto";
import { type Clock, explain, type Logger } from "../base/index.ts";
import { formatSocketAddress, type SocketAddress } from "../values/index.ts";
import { questionKey, ReplyCache, readdress } from "./cache.ts";
import { flag, type Query, rcodes } from "./packet.ts";
import { type Ask, askOverTcp, askOverUdp } from "./upstream.ts";

export interface ForwardOptions {
  /** Asked in this order; one that failed is asked last for a while. */
  readonly servers: readonly SocketAddress[];
  /** How long one server may take, in ms (1500). */
  readonly tryMs?: number;
  /** How long a question may take in all, in ms (4500): resolvers give up or ask again after 5 s. */
  readonly totalMs?: number;
  /** Queries that wait for an answer at one time (1000); one more fails at once. */
  readonly mostPending?: number;
  readonly cacheEntries?: number;
}

/** Why a question went unanswered, or where its answer came from. */
export type Forwarded =
  | { readonly kind: "reply"; readonly bytes: Buffer; readonly from: "cache" | "upstream" }
  | { readonly kind: "failed"; readonly why: "overloaded" | "upstream" };

/** How long a server that failed is asked after the others, in ms. */
const penaltyMs = 10_000;

/** Asks other servers about what is not ours, remembers what they said, and never asks the same thing twice at once. */
export class Forwarder {
  readonly #options: Required<ForwardOptions>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #randomId: () => number;
  readonly #signal: AbortSignal;
  readonly #cache: ReplyCache;
  readonly #pending = new Map<string, Promise<Buffer | undefined>>();
  /** Queries that wait, those that wait for the same question included. */
  #waiting = 0;
  /** Until when each server is asked last. */
  readonly #failedUntil = new Map<SocketAddress, number>();

  constructor(
    options: ForwardOptions,
    deps: {
      readonly clock: Clock;
      readonly log: Logger;
      readonly signal: AbortSignal;
      readonly randomId?: () => number;
    },
  ) {
    this.#options = { tryMs: 1500, totalMs: 4500, mostPending: 1000, cacheEntries: 4096, ...options };
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#signal = deps.signal;
    this.#randomId = deps.randomId ?? (() => randomInt(65536));
    this.#cache = new ReplyCache({ clock: deps.clock, mostEntries: this.#options.cacheEntries });
  }

  /** Queries that wait for an answer. */
  get pending(): number {
    return this.#waiting;
  }

  /** The reply to a query, as it came but for id and spelling, in at most `totalMs`. It may be longer than UDP allows. */
  async ask(query: Query, request: Buffer): Promise<Forwarded> {
    const cached = this.#cache.get(query, request);
    if (cached) return { kind: "reply", bytes: cached, from: "cache" };
    if (this.#waiting >= this.#options.mostPending) return { kind: "failed", why: "overloaded" };
    const key = questionKey(query);
    let pending = this.#pending.get(key);
    if (!pending) {
      pending = this.#askServers(query, request).finally(() => this.#pending.delete(key));
      this.#pending.set(key, pending);
    }
    this.#waiting++;
    const reply = await pending.finally(() => this.#waiting--);
    if (!reply) return { kind: "failed", why: "upstream" };
    return { kind: "reply", bytes: readdress(Buffer.from(reply), query, request), from: "upstream" };
  }

  async #askServers(query: Query, request: Buffer): Promise<Buffer | undefined> {
    const end = this.#clock.monotonic() + this.#options.totalMs;
    let refusal: Buffer | undefined;
    for (let round = 0; round < 2 && !refusal; round++) {
      for (const server of this.#order()) {
        const left = end - this.#clock.monotonic();
        if (left <= 0 || this.#signal.aborted) return refusal;
        const reply = await this.#askOne(server, {
          query,
          request,
          timeoutMs: Math.min(this.#options.tryMs, left),
          end,
        });
        if (!reply) continue;
        if (!refuses(reply)) {
          this.#cache.put(query, reply);
          return reply;
        }
        // Another server may know better; when none does, the client gets what the last one said.
        refusal = reply;
      }
    }
    return refusal;
  }

  async #askOne(
    server: SocketAddress,
    given: { readonly query: Query; readonly request: Buffer; readonly timeoutMs: number; readonly end: number },
  ): Promise<Buffer | undefined> {
    const ask: Ask = {
      server,
      request: given.request,
      questionEnd: given.query.questionEnd,
      timeoutMs: given.timeoutMs,
      clock: this.#clock,
      randomId: this.#randomId,
      signal: this.#signal,
    };
    try {
      const reply = await askOverUdp(ask);
      this.#failedUntil.delete(server);
      if (!(reply.readUInt16BE(2) & flag.truncated)) return reply;
      const left = given.end - this.#clock.monotonic();
      // A server that does not speak TCP has said what it could: cut short is better than nothing.
      if (left <= 0) return reply;
      return await askOverTcp({ ...ask, timeoutMs: Math.min(this.#options.tryMs, left) }).catch((caught) => {
        this.#log.debug({ server: formatSocketAddress(server), why: explain(caught) }, "asking over TCP failed");
        return reply;
      });
    } catch (caught) {
      this.#failedUntil.set(server, this.#clock.monotonic() + penaltyMs);
      this.#log.debug({ server: formatSocketAddress(server), why: explain(caught) }, "name server did not answer");
      return undefined;
    }
  }

  #order(): SocketAddress[] {
    const now = this.#clock.monotonic();
    const failing = (server: SocketAddress) => ((this.#failedUntil.get(server) ?? 0) > now ? 1 : 0);
    return [...this.#options.servers].sort((a, b) => failing(a) - failing(b));
  }
}

/** Whether a server answered that it cannot answer. */
function refuses(reply: Buffer): boolean {
  const rcode = reply.readUInt16BE(2) & 15;
  return rcode === rcodes.servFail || rcode === rcodes.refused || rcode === rcodes.notImp;
}
