import { Cell, type Clock, Failure, type Logger, type Metrics, type Scope } from "../../base/index.ts";
import { typeUrls } from "../../proto/index.ts";
import type { Ip, SocketAddress } from "../../values/index.ts";
import { allSecrets } from "../agent/file-secrets.ts";
import { ConfigStore } from "../config/store.ts";
import { cannotListen, type SharedSocket } from "../l4/acceptor.ts";
import { loadOriginalDestination } from "../l4/original-dst.ts";
import { startProxy } from "../proxy.ts";
import { type Begin, type FromWorker, secretsFrom, type ToWorker } from "./messages.ts";

/** The worker's end of its channel. */
export interface ToPrimary {
  send(message: FromWorker): void;
  /** Each message from now on, with the handle that came along. */
  onMessage(receive: (message: ToWorker, handle: unknown) => void): void;
}

/** Each is kept for what asks for it, which comes first. */
const inOrder = [typeUrls.cluster, typeUrls.endpoints, typeUrls.listener, typeUrls.route, typeUrls.secret] as const;

/** How often a worker that does not listen everywhere yet looks whether it does by now. */
const lookMs = 200;

/**
 * The data path on one more core: the same proxy, told by the primary what to run, who it is and where names lead, and
 * listening on sockets that the primary bound. Runs until it is told to stop; closing the scope is the caller's.
 */
export async function runWorker(
  begin: Begin,
  deps: {
    readonly primary: ToPrimary;
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    /** It was told to stop; the signal aborts when the time to finish is over. */
    readonly onStop: (deadline: AbortSignal) => void;
  },
  scope: Scope,
): Promise<void> {
  const { primary, clock, random, log, metrics } = deps;
  const { settings } = begin;
  const store = new ConfigStore({ clock, log });
  scope.defer(() => store.stop());
  const told = new Cell(secretsFrom(begin.secrets));
  const secrets = allSecrets([told, store.secrets], scope);
  const asking = new Asking(primary, scope.signal);
  const deadline = new AbortController();

  // In one go, so that nothing begins to run before all of it is there.
  for (const type of inOrder) {
    const ofType = begin.resources.filter((resource) => resource.type === type);
    const absent = type === typeUrls.secret ? begin.absent : [];
    if (ofType.length + absent.length > 0) noRefusals(store.apply(type, ofType, absent), log);
  }

  const starting = startProxy(
    {
      clock,
      random,
      log,
      metrics,
      store,
      secrets,
      resolve: (host, family) => asking.resolve(host, family),
      resolveDestination: async (host) => (await asking.resolve(host, undefined)).addresses,
      originalDestination: settings.redirected ? loadOriginalDestination() : undefined,
      captured: settings.captured,
      bind: (address, key) => asking.bind(address, key),
    },
    scope,
  );
  primary.onMessage((message, handle) => {
    switch (message.kind) {
      case "resources":
        return noRefusals(store.apply(message.type, message.updated, message.removed), log);
      case "secrets":
        return told.set(secretsFrom(message.secrets));
      case "bound":
      case "resolved":
      case "unresolved":
        return asking.answer(message, handle);
      case "report":
        return void report(message);
      case "stop":
        return deps.onStop(deadline.signal);
      case "cut":
        return deadline.abort(new Failure("scope/drain-timeout", "the time for draining is over"));
      case "begin":
        return;
    }
  });
  const proxy = await starting;

  async function report({ id, of }: Extract<ToWorker, { readonly kind: "report" }>): Promise<void> {
    if (of === "metrics") primary.send({ kind: "metrics", id, metrics: await metrics.snapshot() });
    else {
      const { listeners, clusters } = await starting;
      primary.send({ kind: "views", id, listeners: listeners(), clusters: clusters() });
    }
  }

  let said: string | undefined;
  const tellListening = () => {
    if (scope.closed) return;
    const listeners = proxy.listeners();
    const now = JSON.stringify(listeners.map(({ name, addresses, error }) => [name, addresses, error]));
    if (now !== said) primary.send({ kind: "listening", listeners });
    said = now;
    if (listeners.some(({ bound, addresses }) => bound && addresses.length === 0))
      clock.after(lookMs, tellListening, { background: true });
  };
  scope.defer(store.active.subscribe(() => void proxy.settled().then(tellListening)));
  tellListening();
}

/** The primary took all of it before, by the same rules. */
function noRefusals(refusals: readonly { readonly name: string; readonly message: string }[], log: Logger): void {
  for (const { name, message } of refusals) log.error({ name, reason: message }, "BUG: worker refused what was taken");
}

type Answer = Extract<ToWorker, { readonly kind: "bound" | "resolved" | "unresolved" }>;

/** What the primary is asked for and has not answered yet. */
class Asking {
  readonly #primary: ToPrimary;
  readonly #pending = new Map<number, (answer: Answer, handle: unknown) => void>();
  #lastId = 0;

  constructor(primary: ToPrimary, gone: AbortSignal) {
    this.#primary = primary;
    gone.addEventListener("abort", () => this.#pending.clear(), { once: true });
  }

  bind(address: SocketAddress, key: string): Promise<SharedSocket> {
    return new Promise((resolve, reject) => {
      const id = this.#ask((answer, handle) => {
        const code = answer.kind === "bound" ? answer.code : undefined;
        if (handle === undefined || handle === null) reject(cannotListen(address, code ?? "ECANCELED"));
        else resolve({ handle, release: () => this.#primary.send({ kind: "released", key }) });
      });
      this.#primary.send({ kind: "bind", id, key, address });
    });
  }

  resolve(
    host: string,
    family: 4 | 6 | undefined,
  ): Promise<{ readonly addresses: readonly Ip[]; readonly ttlMs: number | undefined }> {
    return new Promise((resolve, reject) => {
      const id = this.#ask((answer) => {
        if (answer.kind === "resolved") resolve(answer);
        else if (answer.kind === "unresolved") reject(new Failure(answer.code, answer.message));
      });
      this.#primary.send({ kind: "resolve", id, host, family });
    });
  }

  answer(answer: Answer, handle: unknown): void {
    const waiting = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    waiting?.(answer, handle);
  }

  #ask(take: (answer: Answer, handle: unknown) => void): number {
    const id = ++this.#lastId;
    this.#pending.set(id, take);
    return id;
  }
}
