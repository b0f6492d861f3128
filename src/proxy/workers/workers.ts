import {
  addCounts,
  backoffMs,
  type Cell,
  type Clock,
  type Counter,
  Failure,
  type Gauge,
  type Logger,
  type Metrics,
  type MetricsSnapshot,
  type Scope,
  type Timer,
} from "../../base/index.ts";
import type { DataPath } from "../agent/data-path.ts";
import type { Secrets } from "../config/secret.ts";
import type { ConfigStore, OnTaken } from "../config/store.ts";
import type { ResolveDestination } from "../explicit-listener.ts";
import { boundAddresses, type ListenerView } from "../proxy.ts";
import { socketKey } from "../sockets.ts";
import type { ResolveName } from "../upstream/resolve.ts";
import { type FromWorker, type ToWorker, toldSecrets, type WorkerSettings } from "./messages.ts";
import { type BindHandle, SharedSockets } from "./shared-sockets.ts";
import { mergeClusters, mergeListeners } from "./views.ts";

/** The primary's end of a worker's channel. */
export interface WorkerProcess {
  readonly pid: number | undefined;
  send(message: ToWorker, handle?: unknown): void;
  kill(): void;
}

/** Starts a worker. `ended` is called once, when nothing more comes from it, with why in words. */
export type StartWorker = (
  worker: number,
  on: { readonly message: (message: FromWorker) => void; readonly ended: (why: string) => void },
) => WorkerProcess;

export interface WorkersDeps {
  readonly count: number;
  readonly settings: WorkerSettings;
  readonly start: StartWorker;
  readonly bind: BindHandle;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly store: ConfigStore;
  readonly secrets: Cell<Secrets>;
  readonly resolve: ResolveName;
  readonly resolveDestination: ResolveDestination;
}

/** How long a worker must have lived for its end to be no sign of one that cannot live. */
const steadyMs = 30_000;
/** How often workers are asked what they counted, which also shows that they are alive. */
const askMs = 5_000;
/** How long whoever asks for metrics or views waits for a worker that is busy. */
const patienceMs = 2_000;
/**
 * A worker that leaves so many questions in a row without an answer serves nobody: it is replaced. Counted, not timed, so
 * that a machine which stands still is not held against it; more before its first word, since it may have to start under load.
 */
const mostUnanswered = { starting: 36, running: 12 };
/** What a worker may take to end after its connections were cut off. */
const lastMs = 2_000;

interface Running {
  readonly kind: "running";
  readonly process: WorkerProcess;
  readonly sinceMs: number;
  heard: boolean;
  unanswered: number;
  listeners: readonly ListenerView[];
  counted: MetricsSnapshot | undefined;
}

/** The place of a worker: the one that is there, or when the next one comes. */
interface Place {
  readonly worker: number;
  tries: number;
  state:
    | Running
    | { readonly kind: "waiting"; readonly why: string; readonly timer: Timer }
    | { readonly kind: "ended" };
}

/** Workers with the hook that keeps them told of configuration. */
export interface Workers extends DataPath {
  readonly onTaken: OnTaken;
}

/**
 * The data path on several cores, in as many processes: this one keeps agent, identity and discovery, binds the sockets
 * and tells each worker all that it needs. Workers share nothing else, so that one which dies takes only its own
 * connections with it; another takes its place.
 */
export function startWorkers(deps: WorkersDeps, scope: Scope): Workers {
  const workers = new RunningWorkers(deps);
  scope.defer((deadline) => workers.stop(deadline));
  workers.start(scope);
  return workers;
}

class RunningWorkers implements Workers {
  readonly #deps: WorkersDeps;
  readonly #sockets: SharedSockets;
  readonly #places: readonly Place[];
  readonly #asked = new Map<number, (answer: Extract<FromWorker, { readonly kind: "metrics" | "views" }>) => void>();
  readonly #running: Gauge<never>;
  readonly #ended: Counter<never>;
  readonly #share: Gauge<"worker">;
  /** What workers counted that are no more, by when they were asked last. */
  #past: Promise<MetricsSnapshot> = Promise.resolve([]);
  #lastId = 0;
  #stopping: (() => void) | undefined;

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
    this.#sockets = new SharedSockets(deps.bind);
    this.#places = Array.from({ length: deps.count }, (_, index) => ({
      worker: index + 1,
      tries: 0,
      state: { kind: "ended" },
    }));
    this.#running = deps.metrics.gauge("isthmus_proxy_workers", "Processes that serve connections.");
    this.#ended = deps.metrics.counter("isthmus_proxy_workers_ended_total", "Workers that ended by themselves.");
    this.#share = deps.metrics.gauge("isthmus_proxy_worker_connections", "Connections being served, by worker.", [
      "worker",
    ]);
  }

  start(scope: Scope): void {
    const { store, secrets } = this.#deps;
    const retain = () =>
      this.#sockets.retain(
        new Set(boundAddresses(store.active.value).map(({ address, listener }) => socketKey(address, listener))),
      );
    retain();
    scope.defer(store.active.subscribe(retain));
    scope.defer(secrets.subscribe((value) => this.#tellAll({ kind: "secrets", secrets: toldSecrets(value) })));
    for (const place of this.#places) this.#start(place);
    this.#askAlways(scope);
  }

  readonly onTaken: OnTaken = (type, updated, removed) => {
    const told = updated.map(({ name, version = "", bytes }) => ({ name, version, bytes }));
    this.#tellAll({ kind: "resources", type, updated: told, removed });
  };

  listeners(): readonly ListenerView[] {
    return this.#merge(
      this.#places.map(({ worker, state }) => ({ worker, listeners: state.kind === "running" ? state.listeners : [] })),
    );
  }

  problem(): string | undefined {
    const waiting = this.#places.flatMap(({ state }) => (state.kind === "waiting" ? [state.why] : []));
    return waiting.length === this.#places.length ? `no worker runs: the last one ${waiting[0]}` : undefined;
  }

  async views() {
    const answers = await this.#ask("views");
    const views = answers.flatMap(({ worker, answer }) => (answer?.kind === "views" ? [{ worker, ...answer }] : []));
    return { listeners: this.#merge(views), clusters: mergeClusters(views.map(({ clusters }) => clusters)) };
  }

  async metricsText(): Promise<string> {
    await this.#ask("metrics");
    const past = await this.#past;
    const counted: MetricsSnapshot[] = [];
    this.#share.reset();
    for (const { worker, state } of this.#places) {
      if (state.kind !== "running" || !state.counted) continue;
      counted.push(state.counted);
      this.#share.set({ worker }, connectionsOf(state.counted));
    }
    return this.#deps.metrics.text([past, ...counted]);
  }

  /** Drains until the deadline, then cuts off. */
  async stop(deadline: AbortSignal): Promise<void> {
    // Nothing waits in a queue that nobody will read.
    this.#sockets.close();
    const gone = new Promise<void>((resolve) => {
      this.#stopping = resolve;
    });
    for (const place of this.#places) {
      if (place.state.kind !== "waiting") continue;
      place.state.timer.cancel();
      place.state = { kind: "ended" };
    }
    this.#tellAll({ kind: "stop" });
    let last: Timer | undefined;
    const cut = () => {
      this.#tellAll({ kind: "cut" });
      last = this.#deps.clock.after(lastMs, () => {
        for (const { state } of this.#places) if (state.kind === "running") state.process.kill();
      });
    };
    if (deadline.aborted) cut();
    else deadline.addEventListener("abort", cut, { once: true });
    this.#settleStop();
    await gone;
    deadline.removeEventListener("abort", cut);
    last?.cancel();
  }

  #settleStop(): void {
    if (this.#places.every(({ state }) => state.kind === "ended")) this.#stopping?.();
  }

  #start(place: Place): void {
    const { clock, log, start, store, secrets, settings } = this.#deps;
    const { worker } = place;
    const process = start(worker, {
      message: (message) => this.#take(worker, running, message),
      ended: (why) => this.#end(place, running, why),
    });
    const running: Running = {
      kind: "running",
      process,
      sinceMs: clock.monotonic(),
      heard: false,
      unanswered: 0,
      listeners: [],
      counted: undefined,
    };
    place.state = running;
    this.#countRunning();
    const whole = store.whole();
    process.send({
      kind: "begin",
      worker,
      settings,
      secrets: toldSecrets(secrets.value),
      resources: whole.resources.map(({ type, name, version = "", bytes }) => ({ type, name, version, bytes })),
      absent: whole.absent,
    });
    log.info({ worker, pid: process.pid }, "worker started");
  }

  #end(place: Place, running: Running, why: string): void {
    const { clock, log, random } = this.#deps;
    const { worker } = place;
    this.#sockets.releaseAll(worker);
    const { counted } = running;
    if (counted)
      this.#past = this.#past
        .then((past) => addCounts(past, counted))
        .catch((err: unknown) => {
          log.error({ err }, "counts of a worker that ended were lost");
          return [];
        });
    if (this.#stopping) {
      place.state = { kind: "ended" };
      this.#countRunning();
      this.#settleStop();
      return;
    }
    this.#ended.inc();
    place.tries = clock.monotonic() - running.sinceMs >= steadyMs ? 1 : place.tries + 1;
    const waitMs = backoffMs(place.tries, { firstMs: 100, maxMs: 10_000 }, random);
    log.error({ worker, why, againMs: Math.round(waitMs) }, "worker ended; its connections are lost, another comes");
    place.state = { kind: "waiting", why, timer: clock.after(waitMs, () => this.#start(place)) };
    this.#countRunning();
  }

  #take(worker: number, running: Running, message: FromWorker): void {
    const { process } = running;
    running.heard = true;
    running.unanswered = 0;
    switch (message.kind) {
      case "listening":
        running.listeners = message.listeners;
        return;
      case "bind": {
        const handle = this.#sockets.take(message.key, message.address, worker);
        if (typeof handle === "string") process.send({ kind: "bound", id: message.id, code: handle });
        else process.send({ kind: "bound", id: message.id, code: undefined }, handle);
        return;
      }
      case "released":
        this.#sockets.release(message.key, worker);
        return;
      case "resolve":
        return void this.#resolve(message).then((answer) => process.send(answer));
      case "metrics":
      case "views": {
        if (message.kind === "metrics") running.counted = message.metrics;
        else running.listeners = message.listeners;
        const waiting = this.#asked.get(message.id);
        this.#asked.delete(message.id);
        waiting?.(message);
        return;
      }
    }
  }

  async #resolve({ id, host, family }: Extract<FromWorker, { readonly kind: "resolve" }>): Promise<ToWorker> {
    const { resolve, resolveDestination } = this.#deps;
    try {
      const found =
        family === undefined
          ? { addresses: await resolveDestination(host), ttlMs: undefined }
          : await resolve(host, family);
      return { kind: "resolved", id, addresses: found.addresses, ttlMs: found.ttlMs };
    } catch (caught) {
      const { code, message } = Failure.from(caught);
      return { kind: "unresolved", id, code, message };
    }
  }

  /** Asks every worker that runs; without an answer from one that does not give it in time. */
  #ask(of: "metrics" | "views") {
    return Promise.all(
      this.#places.flatMap(({ worker, state }) => {
        if (state.kind !== "running") return [];
        const id = ++this.#lastId;
        return new Promise<{
          readonly worker: number;
          readonly answer: Extract<FromWorker, { readonly kind: "metrics" | "views" }> | undefined;
        }>((resolve) => {
          const timer = this.#deps.clock.after(patienceMs, () => {
            this.#asked.delete(id);
            resolve({ worker, answer: undefined });
          });
          this.#asked.set(id, (answer) => {
            timer.cancel();
            resolve({ worker, answer });
          });
          state.process.send({ kind: "report", id, of });
        });
      }),
    );
  }

  #askAlways(scope: Scope): void {
    const { clock, log } = this.#deps;
    let timer: Timer | undefined;
    const again = () => {
      timer = clock.after(
        askMs,
        () => {
          for (const { worker, state } of this.#places) {
            if (state.kind !== "running") continue;
            if (state.unanswered >= (state.heard ? mostUnanswered.running : mostUnanswered.starting)) {
              log.error({ worker, unanswered: state.unanswered }, "worker answers nothing; ending it");
              state.process.kill();
            } else {
              state.unanswered++;
              state.process.send({ kind: "report", id: ++this.#lastId, of: "metrics" });
            }
          }
          again();
        },
        { background: true },
      );
    };
    again();
    scope.defer(() => timer?.cancel());
  }

  #merge(views: Parameters<typeof mergeListeners>[1]): readonly ListenerView[] {
    return mergeListeners(this.#deps.store.active.value.listeners.values(), views);
  }

  #tellAll(message: ToWorker): void {
    for (const { state } of this.#places) if (state.kind === "running") state.process.send(message);
  }

  #countRunning(): void {
    this.#running.set(this.#places.filter(({ state }) => state.kind === "running").length);
  }
}

function connectionsOf(counted: MetricsSnapshot): number {
  const active = counted.find(({ name }) => name === "isthmus_proxy_connections_active");
  return (active?.values ?? []).reduce<number>((sum, each) => sum + (each as { readonly value: number }).value, 0);
}
