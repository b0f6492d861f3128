import { type TypeUrl, typeUrls, type Versioned } from "../proto/index.ts";

/** What a client asked, of one type, in the words of either protocol. */
export type Ask =
  | {
      readonly protocol: "delta";
      readonly nonce: string;
      readonly error: string | undefined;
      readonly subscribe: readonly string[];
      readonly unsubscribe: readonly string[];
      /** On the first request of a stream: what the client still holds from an earlier one. */
      readonly held: ReadonlyMap<string, string>;
    }
  | {
      readonly protocol: "sotw";
      readonly nonce: string;
      readonly error: string | undefined;
      readonly names: readonly string[];
    };

/** What one request meant. `stale`: it answers a response that is no longer the last one, which says nothing. */
export type Heard =
  | { readonly kind: "subscribed" }
  | { readonly kind: "acked"; readonly response: Response }
  | { readonly kind: "refused"; readonly response: Response; readonly reason: string }
  | { readonly kind: "stale" };

/** What to tell the client: in delta the differences, in state-of-the-world what a response has to hold. */
export interface Response {
  readonly nonce: string;
  readonly resources: readonly Versioned[];
  /** Names among them that are new or changed; the others are there because the protocol wants them to be. */
  readonly changed: readonly string[];
  /** Always empty in state-of-the-world, where what is gone is simply absent. */
  readonly removed: readonly string[];
}

/**
 * `make`: what is new or changed, and nothing taken away that something else may still point at.
 * `break`: what is gone as well, when all that pointed at it has been replaced.
 */
export type Phase = "make" | "break";

/** What one client was sent of one type and what it said. Decides what to tell it; touches no stream. */
export interface Subscription {
  /** The nonce of the response that waits for its answer; until then `respond` has nothing to say. */
  readonly outstanding: string | undefined;
  /** How many names it was asked for, one by one. */
  readonly nameCount: number;
  accept(ask: Ask): Heard;
  /** The next response, or undefined when the client knows all. Once returned it counts as sent. */
  respond(options: {
    readonly resources: ReadonlyMap<string, Versioned>;
    readonly nonce: string;
    readonly phase: Phase;
  }): Response | undefined;
  /** These are to be sent again although they did not change, as far as they are subscribed to. */
  owe(names: Iterable<string>): void;
}

/**
 * Types for which a client that names nothing wants all. For the others naming nothing means nothing. (The
 * specification has it for the first two; the table of names has no names to ask for.)
 */
const wholeTypes: ReadonlySet<string> = new Set<TypeUrl>([typeUrls.cluster, typeUrls.listener, typeUrls.names]);

/** Types whose state-of-the-world response must hold everything subscribed to, since what is absent is deleted. */
const completeTypes: ReadonlySet<string> = wholeTypes;

const wildcardName = "*";

export function createSubscription(protocol: Ask["protocol"], typeUrl: string): Subscription {
  return protocol === "delta" ? new DeltaSubscription(typeUrl) : new SotwSubscription(typeUrl);
}

/** Told and found not to be there. */
const absent = Symbol("absent");

class DeltaSubscription implements Subscription {
  readonly #typeUrl: string;
  #started = false;
  #wildcard = false;
  readonly #names = new Set<string>();
  /** The version last told of each name. A version that was refused stays here, so it is not told again. */
  readonly #told = new Map<string, string | typeof absent>();
  /** Told again at the next response, changed or not. */
  readonly #owed = new Set<string>();
  /** A response is due even when there is nothing in it: it says that there is nothing. */
  #answerDue = false;
  #outstanding: Response | undefined;
  /** What the last response was made from: the same map again has no news. */
  #seen: { readonly resources: ReadonlyMap<string, Versioned>; readonly phase: Phase } | undefined;

  constructor(typeUrl: string) {
    this.#typeUrl = typeUrl;
  }

  get outstanding(): string | undefined {
    return this.#outstanding?.nonce;
  }

  get nameCount(): number {
    return this.#names.size;
  }

  accept(ask: Ask): Heard {
    if (ask.protocol !== "delta") throw new Error("BUG: one stream, two protocols");
    const first = !this.#started;
    if (first) this.#start(ask);
    // A request may answer and change the subscription at once, and the change counts even when the answer is stale.
    this.#change(ask, first);
    if (first || ask.nonce === "") return { kind: "subscribed" };
    const answered = this.#outstanding;
    if (answered?.nonce !== ask.nonce) return { kind: "stale" };
    this.#outstanding = undefined;
    return ask.error === undefined
      ? { kind: "acked", response: answered }
      : { kind: "refused", response: answered, reason: ask.error };
  }

  #start(ask: Extract<Ask, { protocol: "delta" }>): void {
    this.#started = true;
    this.#wildcard = ask.subscribe.length === 0 && wholeTypes.has(this.#typeUrl);
    for (const [name, version] of ask.held) this.#told.set(name, version);
  }

  #change(ask: Extract<Ask, { protocol: "delta" }>, first: boolean): void {
    for (const name of ask.subscribe) {
      if (name === wildcardName) this.#wildcard = true;
      else {
        this.#names.add(name);
        // Whoever asks again wants an answer; but what a reconnecting client says it holds it need not be sent.
        if (!(first && ask.held.has(name))) this.#owed.add(name);
      }
    }
    if (first || ask.subscribe.includes(wildcardName)) this.#answerDue ||= this.#wildcard;
    for (const name of ask.unsubscribe) {
      if (name === wildcardName) this.#wildcard = false;
      else {
        this.#names.delete(name);
        // The client forgets it now; if it still wants everything, it has to hear of it anew.
        if (this.#wildcard) this.#owed.add(name);
        else this.#owed.delete(name);
      }
    }
    if (ask.unsubscribe.length > 0 && !this.#wildcard) {
      for (const name of this.#told.keys()) if (!this.#names.has(name)) this.#told.delete(name);
    }
    if (first || ask.subscribe.length > 0 || ask.unsubscribe.length > 0) this.#seen = undefined;
  }

  owe(names: Iterable<string>): void {
    for (const name of names) if (this.#names.has(name) || this.#told.has(name)) this.#owed.add(name);
  }

  respond(options: {
    readonly resources: ReadonlyMap<string, Versioned>;
    readonly nonce: string;
    readonly phase: Phase;
  }): Response | undefined {
    const { resources, nonce, phase } = options;
    if (!this.#started || this.#outstanding) return undefined;
    if (!this.#answerDue && this.#owed.size === 0 && this.#nothingNew(resources, phase)) return undefined;
    const changed: Versioned[] = [];
    const tell = (name: string, resource: Versioned) => {
      if (this.#told.get(name) === resource.version && !this.#owed.has(name)) return;
      this.#told.set(name, resource.version);
      changed.push(resource);
    };
    const removed: string[] = [];
    if (this.#wildcard) for (const [name, resource] of resources) tell(name, resource);
    for (const name of this.#names) {
      const resource = resources.get(name);
      if (resource) {
        if (!this.#wildcard) tell(name, resource);
      } else if (this.#owed.has(name) || (phase === "break" && this.#told.get(name) !== absent)) {
        this.#told.set(name, absent);
        removed.push(name);
      }
    }
    if (this.#wildcard) {
      for (const name of this.#owed) {
        if (this.#names.has(name) || resources.has(name)) continue;
        this.#told.delete(name);
        removed.push(name);
      }
    }
    if (phase === "break") {
      for (const name of this.#told.keys()) {
        if (this.#names.has(name) || (this.#wildcard && resources.has(name))) continue;
        this.#told.delete(name);
        removed.push(name);
      }
    }
    this.#seen = { resources, phase };
    this.#owed.clear();
    if (changed.length === 0 && removed.length === 0 && !this.#answerDue) return undefined;
    this.#answerDue = false;
    this.#outstanding = { nonce, resources: changed, changed: changed.map(({ name }) => name), removed };
    return this.#outstanding;
  }

  #nothingNew(resources: ReadonlyMap<string, Versioned>, phase: Phase): boolean {
    return this.#seen?.resources === resources && (this.#seen.phase === "break" || phase === "make");
  }
}

class SotwSubscription implements Subscription {
  readonly #complete: boolean;
  readonly #whole: boolean;
  #started = false;
  #wildcard = false;
  /** Once a client named something, naming nothing means nothing. */
  #named = false;
  #names: ReadonlySet<string> = new Set();
  readonly #told = new Map<string, Versioned>();
  readonly #owed = new Set<string>();
  #answerDue = false;
  #outstanding: Response | undefined;
  #lastNonce: string | undefined;
  #seen: { readonly resources: ReadonlyMap<string, Versioned>; readonly phase: Phase } | undefined;

  constructor(typeUrl: string) {
    this.#whole = wholeTypes.has(typeUrl);
    this.#complete = completeTypes.has(typeUrl);
  }

  get outstanding(): string | undefined {
    return this.#outstanding?.nonce;
  }

  get nameCount(): number {
    return this.#names.size;
  }

  accept(ask: Ask): Heard {
    if (ask.protocol !== "sotw") throw new Error("BUG: one stream, two protocols");
    const first = !this.#started;
    // The answer to the newer response will name the names that count, so a stale request is left aside whole.
    if (!first && ask.nonce !== "" && ask.nonce !== this.#lastNonce) return { kind: "stale" };
    this.#started = true;
    this.#rename(ask.names);
    if (first || ask.nonce === "") {
      // It says that it knows of no response, so all it wants is news to it.
      this.#told.clear();
      this.#answerDue = true;
      return { kind: "subscribed" };
    }
    const answered = this.#outstanding;
    if (!answered) return { kind: "subscribed" };
    this.#outstanding = undefined;
    return ask.error === undefined
      ? { kind: "acked", response: answered }
      : { kind: "refused", response: answered, reason: ask.error };
  }

  #rename(names: readonly string[]): void {
    if (names.length > 0) this.#named = true;
    const wildcard = names.includes(wildcardName) || (!this.#named && this.#whole);
    const next = new Set(names.filter((name) => name !== wildcardName));
    const widened = wildcard && !this.#wildcard;
    for (const name of next) if (!this.#names.has(name)) this.#owed.add(name);
    const changed = widened || wildcard !== this.#wildcard || next.size !== this.#names.size || this.#owed.size > 0;
    this.#wildcard = wildcard;
    this.#names = next;
    if (!changed) return;
    this.#seen = undefined;
    if (widened) this.#answerDue = true;
    for (const name of this.#told.keys()) if (!this.#wants(name)) this.#told.delete(name);
  }

  #wants(name: string): boolean {
    return this.#wildcard || this.#names.has(name);
  }

  owe(names: Iterable<string>): void {
    for (const name of names) if (this.#told.has(name)) this.#owed.add(name);
  }

  respond(options: {
    readonly resources: ReadonlyMap<string, Versioned>;
    readonly nonce: string;
    readonly phase: Phase;
  }): Response | undefined {
    const { resources, nonce, phase } = options;
    if (!this.#started || this.#outstanding) return undefined;
    const due = this.#answerDue || this.#owed.size > 0;
    if (!due && this.#seen?.resources === resources && (this.#seen.phase === "break" || phase === "make"))
      return undefined;
    this.#seen = { resources, phase };
    const wanted: Versioned[] = [];
    if (this.#wildcard) wanted.push(...resources.values());
    else
      for (const name of this.#names) {
        const resource = resources.get(name);
        if (resource) wanted.push(resource);
      }
    const changed = wanted.filter(
      ({ name, version }) => this.#told.get(name)?.version !== version || this.#owed.has(name),
    );
    const gone = [...this.#told.values()].filter(({ name }) => !resources.has(name));
    if (phase === "break") for (const { name } of gone) this.#told.delete(name);
    for (const resource of changed) this.#told.set(resource.name, resource);
    this.#owed.clear();
    // Where what is absent counts as deleted, a vanished one is a change; elsewhere there is no way to say it.
    const vanished = this.#complete && phase === "break" && gone.length > 0;
    if (changed.length === 0 && !vanished && !due) return undefined;
    this.#answerDue = false;
    // While others may still point at what is gone, it stays in the response, as it was.
    const sent = this.#complete ? (phase === "make" ? [...wanted, ...gone] : wanted) : changed;
    this.#outstanding = { nonce, resources: sent, changed: changed.map(({ name }) => name), removed: [] };
    this.#lastNonce = nonce;
    return this.#outstanding;
  }
}
