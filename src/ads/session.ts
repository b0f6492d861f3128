import { type Snapshot, typeUrls } from "../proto/index.ts";
import {
  type Ask,
  createSubscription,
  type Heard,
  type Phase,
  type Response,
  type Subscription,
} from "./subscription.ts";

/** A response and the type it is of. */
export interface Say extends Response {
  readonly typeUrl: string;
}

/** What a client may not do, with the words for it. */
export interface SessionLimits {
  /** Names asked for one by one, of one type. */
  readonly maxNames: number;
  /** Types asked for on one stream, known to us or not. */
  readonly maxTypes: number;
}

export type SessionHeard = Heard | { readonly kind: "excessive"; readonly reason: string };

const emptyType: Snapshot extends ReadonlyMap<infer _, infer Resources> ? Resources : never = new Map();

/** Making goes down this list: what is pointed at comes before what points at it. */
const makeOrder: readonly string[] = [
  typeUrls.cluster,
  typeUrls.endpoints,
  typeUrls.listener,
  typeUrls.route,
  typeUrls.secret,
  typeUrls.names,
];

/** What clusters and endpoints listeners and routes point at goes last. */
const pointedAt: ReadonlySet<string> = new Set([typeUrls.cluster, typeUrls.endpoints]);
const pointing: ReadonlySet<string> = new Set([typeUrls.listener, typeUrls.route]);

/**
 * One stream: what to say next, of which type. Listeners and routes wait until the client answered for the clusters
 * and endpoints before them; what is gone is taken away only when nothing that was sent points at it any more.
 */
export class Session {
  readonly #protocol: Ask["protocol"];
  readonly #limits: SessionLimits;
  readonly #subscriptions = new Map<string, Subscription>();
  #said = 0;

  constructor(protocol: Ask["protocol"], limits: SessionLimits) {
    this.#protocol = protocol;
    this.#limits = limits;
  }

  /**
   * A type that we do not know is taken as one of which there is nothing: its names are answered as absent, so that
   * the client need not wait, and the other types go on.
   */
  hear(typeUrl: string, ask: Ask): SessionHeard {
    const { maxNames, maxTypes } = this.#limits;
    const named = ask.protocol === "delta" ? ask.subscribe.length + ask.held.size : ask.names.length;
    let subscription = this.#subscriptions.get(typeUrl);
    // Before anything is kept: names asked for over and over must not be counted, or stored, twice.
    if (named > maxNames) return tooManyNames(named, maxNames);
    if (!subscription) {
      if (this.#subscriptions.size >= maxTypes)
        return { kind: "excessive", reason: `more than ${maxTypes} types on one stream` };
      subscription = createSubscription(this.#protocol, typeUrl);
      this.#subscriptions.set(typeUrl, subscription);
    }
    const heard = subscription.accept(ask);
    return subscription.nameCount > maxNames ? tooManyNames(subscription.nameCount, maxNames) : heard;
  }

  /** The next response, or undefined when there is nothing to say before the client speaks or the snapshot changes. */
  next(snapshot: Snapshot): Say | undefined {
    return this.#pass(snapshot, "make") ?? this.#pass(snapshot, "break");
  }

  /** Types that were asked for and how many names of each; for dumps. */
  subscriptions(): ReadonlyMap<string, { readonly names: number; readonly outstanding: string | undefined }> {
    return new Map(
      [...this.#subscriptions].map(([typeUrl, { nameCount, outstanding }]) => [
        typeUrl,
        { names: nameCount, outstanding },
      ]),
    );
  }

  #pass(snapshot: Snapshot, phase: Phase): Say | undefined {
    const unknown = [...this.#subscriptions.keys()].filter((typeUrl) => !makeOrder.includes(typeUrl));
    for (const typeUrl of [...makeOrder, ...unknown]) {
      const subscription = this.#subscriptions.get(typeUrl);
      if (!subscription || subscription.outstanding !== undefined) continue;
      if (pointing.has(typeUrl) && this.#waitingFor(pointedAt)) continue;
      if (phase === "break" && pointedAt.has(typeUrl) && (this.#waitingFor(pointing) || this.#waitingFor(pointedAt)))
        continue;
      const resources = (snapshot as ReadonlyMap<string, typeof emptyType>).get(typeUrl) ?? emptyType;
      const nonce = String(this.#said + 1);
      // Only what others point at has to outlive them.
      const ownPhase = pointedAt.has(typeUrl) ? phase : "break";
      const response = subscription.respond({ resources, nonce, phase: ownPhase });
      if (!response) continue;
      this.#said += 1;
      // A cluster that changed is made anew by the client, which then waits for endpoints that it did not ask for again.
      if (typeUrl === typeUrls.cluster) this.#subscriptions.get(typeUrls.endpoints)?.owe(response.changed);
      return { typeUrl, ...response };
    }
    return undefined;
  }

  #waitingFor(types: ReadonlySet<string>): boolean {
    return [...types].some((typeUrl) => this.#subscriptions.get(typeUrl)?.outstanding !== undefined);
  }
}

function tooManyNames(count: number, maxNames: number): SessionHeard {
  return { kind: "excessive", reason: `${count} resource names of one type, at most ${maxNames} are served` };
}
