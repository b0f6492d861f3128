import type { Clock, Logger, Timer } from "../../base/index.ts";
import type { HealthRules } from "../config/health-check.ts";
import type { Stop } from "../l4/stop.ts";
import { type Asker, askerFor } from "./health-ask.ts";
import { type HealthState, nextHealth, nextQuestionMs, unasked } from "./health-state.ts";
import type { Endpoint, UpstreamSocket } from "./upstream.ts";

interface Watched {
  endpoint: Endpoint;
  state: HealthState;
  /** Why it is not well, as far as the last answer says. */
  reason: string;
  readonly asker: Asker;
  timer: Timer | undefined;
  gone: boolean;
}

interface HealthWatchDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly cluster: string;
  readonly connect: (endpoint: Endpoint, signal: Stop) => Promise<UpstreamSocket>;
  /** What is believed of an endpoint has changed. */
  readonly tell: (endpoint: Endpoint) => void;
}

/** Asks the endpoints of a cluster whether they are well, each at its own pace, as long as they belong to it. */
export class HealthWatch {
  readonly #rules: HealthRules;
  readonly #deps: HealthWatchDeps;
  readonly #watched = new Map<string, Watched>();

  constructor(rules: HealthRules, deps: HealthWatchDeps) {
    this.#rules = rules;
    this.#deps = deps;
  }

  /** Takes who belongs to the cluster now. Who stays keeps what is believed of it. */
  watch(endpoints: Iterable<Endpoint>): void {
    const keys = new Set<string>();
    for (const endpoint of endpoints) {
      keys.add(endpoint.key);
      const known = this.#watched.get(endpoint.key);
      if (known) known.endpoint = endpoint;
      else this.#begin(endpoint);
    }
    for (const [key, watched] of this.#watched) if (!keys.has(key)) this.#end(key, watched);
  }

  stateOf({ key }: Endpoint): HealthState["health"] {
    return this.#watched.get(key)?.state.health ?? "unknown";
  }

  reasonOf({ key }: Endpoint): string {
    return this.#watched.get(key)?.reason ?? "";
  }

  stop(): void {
    for (const [key, watched] of this.#watched) this.#end(key, watched);
  }

  #begin(endpoint: Endpoint): void {
    const { clock, random, cluster, connect } = this.#deps;
    const watched: Watched = {
      endpoint,
      state: unasked,
      reason: "",
      asker: askerFor(this.#rules, { clock, cluster, connect: (signal) => connect(watched.endpoint, signal) }),
      timer: undefined,
      gone: false,
    };
    this.#watched.set(endpoint.key, watched);
    this.#later(watched, this.#rules.firstJitterMs * random());
  }

  #end(key: string, watched: Watched): void {
    watched.gone = true;
    watched.timer?.cancel();
    watched.asker.close();
    this.#watched.delete(key);
  }

  #later(watched: Watched, ms: number): void {
    watched.timer = this.#deps.clock.after(ms, () => void this.#ask(watched), { background: true });
  }

  /** Never rejects: an asker answers for whatever goes wrong. */
  async #ask(watched: Watched): Promise<void> {
    const answer = await watched.asker.ask();
    if (watched.gone) {
      watched.asker.close();
      return;
    }
    const before = watched.state;
    const after = nextHealth(before, answer, this.#rules);
    watched.state = after;
    watched.reason = answer.kind === "well" ? "" : answer.reason;
    if (before.health !== after.health) this.#changed(watched, before.health);
    this.#later(watched, nextQuestionMs({ before, after }, this.#rules, this.#deps.random));
  }

  #changed({ endpoint, state, reason }: Watched, before: HealthState["health"]): void {
    const { log, cluster, tell } = this.#deps;
    if (state.health === "failing") log.warn({ cluster, endpoint: endpoint.key, reason }, "endpoint is not well");
    else if (before === "failing") log.info({ cluster, endpoint: endpoint.key }, "endpoint is well again");
    tell(endpoint);
  }
}
