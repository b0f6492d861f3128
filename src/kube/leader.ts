import { Cell, type Clock, Failure, type Logger, Scope, sleep, type Timer } from "../base/index.ts";
import type { KubeClient } from "./client.ts";
import {
  heldLease,
  type LeaseRecord,
  type LeaseState,
  type LeaseTimes,
  leaseObject,
  leaseStep,
  leaseTimes,
  mayLead,
  readLease,
  seenLease,
  unknownLease,
} from "./lease.ts";
import { isKubeObject } from "./object.ts";

export type Leadership =
  | { readonly kind: "leading" }
  /** Empty while nobody holds it, or nobody was seen yet. */
  | { readonly kind: "following"; readonly holder: string };

export interface Leader {
  readonly state: Cell<Leadership>;
  /** Why the lease can be neither read nor written now. */
  readonly problem: Cell<Failure | undefined>;
  /** Stops the leader's work and lets another begin at once; this one does not lead again. */
  release(): Promise<void>;
}

/** What leads while it may. The scope ends before anybody else may begin. */
export interface Mandate {
  readonly scope: Scope;
  /** To be asked before each write: true until this leader gave up, whatever timers are late. */
  holds(): boolean;
}

export interface LeaderOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Who this is: the pod's name. Two that have one name both take themselves for the holder. */
  readonly me: string;
  /** Begins the leader's work. What it throws is a bug, said, and ends nothing. */
  readonly lead: (mandate: Mandate) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly times?: LeaseTimes;
}

/** An answer that takes longer is none: a renewal has to get through well before leadership lapses. */
const requestMs = 4_000;
/** Work that is cut off has so long to end: less than lies between giving up and another's beginning. */
const endingMs = 3_000;

/**
 * Contends for a lease as long as the scope lasts, and runs the leader's work while it holds it. A leader that cannot
 * renew ends its work by itself, before anyone else may begin. Never gives up contending.
 */
export function startLeader(options: LeaderOptions, scope: Scope): Leader {
  const contender = new Contender(options, scope);
  const running = contender.run();
  scope.defer(async () => {
    await running;
    await contender.release();
  });
  return contender;
}

class Contender implements Leader {
  readonly state = new Cell<Leadership>({ kind: "following", holder: "" });
  readonly problem = new Cell<Failure | undefined>(undefined);
  readonly #options: LeaderOptions;
  readonly #times: LeaseTimes;
  readonly #scope: Scope;
  #known: LeaseState = unknownLease;
  #work: Scope | undefined;
  #fence: Timer | undefined;
  #released: Promise<void> | undefined;

  constructor(options: LeaderOptions, scope: Scope) {
    this.#options = options;
    this.#times = options.times ?? leaseTimes;
    this.#scope = scope;
  }

  async run(): Promise<void> {
    const { clock, random, log, name } = this.#options;
    while (!this.#scope.closed && this.#released === undefined) {
      let late = false;
      try {
        await this.#contend();
        if (this.problem.value) log.info({ lease: name }, "the lease can be read and written again");
        this.problem.set(undefined);
      } catch (caught) {
        if (this.#scope.closed || this.#released !== undefined) break;
        const failure = Failure.from(caught, "kube/lease");
        // Who was a moment too late is no news: a look at once shows who was faster.
        late = failure.code === "kube/conflict";
        if (!late) {
          if (this.problem.value?.code !== failure.code)
            log.warn({ lease: name, err: failure }, "the lease cannot be read or written; nothing new is led");
          this.problem.set(failure);
        }
      }
      const wait = this.#times.retryMs * (late ? 0.05 : 1 + random() / 5);
      await sleep(clock, wait, this.#scope.signal).catch(() => {}); // Only the end of the scope wakes it early.
    }
  }

  async #contend(): Promise<void> {
    const { clock, me } = this.#options;
    const found = await this.#read();
    if (this.#released !== undefined) return;
    this.#known = seenLease(this.#known, found, { me, nowMs: clock.monotonic() });
    const step = leaseStep(this.#known, { me, nowMs: clock.monotonic(), times: this.#times, wallMs: clock.now() });
    if (step.kind === "wait") {
      this.#follow(step.holder);
      return;
    }
    const sentMs = clock.monotonic();
    const written = await this.#write(step.record, step.kind === "update" ? step.version : undefined);
    this.#known = heldLease(written, { sentMs, nowMs: clock.monotonic(), times: this.#times });
    if (this.#released === undefined) this.#lead();
  }

  #lead(): void {
    const { clock, log, name, me, lead } = this.#options;
    this.#fence?.cancel();
    const left = (this.#known.untilMs ?? 0) - clock.monotonic();
    if (left <= 0) {
      this.#follow("");
      return;
    }
    this.#fence = clock.after(
      left,
      () => {
        log.warn({ lease: name }, "the lease could not be renewed in time; what only a leader does is stopped");
        this.#follow("");
      },
      { background: true },
    );
    if (this.#work) return;
    const work = new Scope();
    this.#work = work;
    log.info({ lease: name, me }, "leading");
    this.state.set({ kind: "leading" });
    try {
      lead({ scope: work, holds: () => !work.closed && mayLead(this.#known, clock.monotonic()) });
    } catch (err) {
      log.error({ err }, "the leader's work did not begin");
    }
  }

  #follow(holder: string): void {
    this.#fence?.cancel();
    void this.#end();
    if (this.state.value.kind === "following" && this.state.value.holder === holder) return;
    this.#options.log.info({ lease: this.#options.name, holder }, "following");
    this.state.set({ kind: "following", holder });
  }

  async #end(): Promise<void> {
    const { clock, log } = this.#options;
    const work = this.#work;
    this.#work = undefined;
    await work
      ?.close({ drainMs: endingMs, clock })
      .catch((err) => log.debug({ err }, "the leader's work did not end cleanly"));
  }

  release(): Promise<void> {
    this.#released ??= (async () => {
      const { clock, log, name } = this.#options;
      const led = this.#work !== undefined;
      this.#fence?.cancel();
      await this.#end();
      this.state.set({ kind: "following", holder: "" });
      const { seen } = this.#known;
      if (!led || !seen || !mayLead(this.#known, clock.monotonic())) return;
      this.#known = { seen, untilMs: undefined };
      try {
        // One second, as a lease cannot last none: nobody waits for it, since it has no holder.
        await this.#write({ ...seen.record, holder: "", durationMs: 1_000 }, seen.version);
        log.info({ lease: name }, "lease given up");
      } catch (err) {
        log.debug({ err }, "lease not given up; it lapses by itself");
      }
    })();
    return this.#released;
  }

  get #path(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#options.namespace}/leases`;
  }

  async #read(): Promise<ReturnType<typeof readLease> | undefined> {
    const { client, name } = this.#options;
    const path = `${this.#path}/${name}`;
    try {
      const object = await client.json({ path, timeoutMs: requestMs, signal: this.#scope.signal });
      if (isKubeObject(object)) return readLease(object, this.#times);
      throw new Failure(
        "kube/not-kubernetes",
        `"${client.access.server}" answered ${path} with something that is no Lease`,
      );
    } catch (caught) {
      if (caught instanceof Failure && caught.code === "kube/not-found") return undefined;
      throw caught;
    }
  }

  async #write(record: LeaseRecord, version: string | undefined): Promise<ReturnType<typeof readLease>> {
    const { client, namespace, name, labels, clock } = this.#options;
    const body = leaseObject({ namespace, name, labels, record, version, wallMs: clock.now() });
    const to =
      version === undefined
        ? ({ method: "POST", path: this.#path } as const)
        : ({ method: "PUT", path: `${this.#path}/${name}` } as const);
    const written = await client.json({ ...to, body, timeoutMs: requestMs });
    if (isKubeObject(written)) return readLease(written, this.#times);
    throw new Failure(
      "kube/not-kubernetes",
      `"${client.access.server}" answered ${to.path} with something that is no Lease`,
    );
  }
}
