import {
  type BackoffOptions,
  backoffMs,
  Cell,
  type Clock,
  explain,
  Failure,
  type Logger,
  type Scope,
  sleep,
} from "../base/index.ts";
import type { Node } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { AggregatedDiscoveryService } from "../proto/gen/envoy/service/discovery/v3/ads_pb.js";
import type {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "../proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { TypeUrl } from "../proto/index.ts";
import { type Change, ClientState, type Interest, type Refusal } from "./client-state.ts";
import { type ClientStream, type GrpcChannel, openChannel } from "./grpc/channel.ts";
import type { ClientSecurity } from "./grpc/credentials.ts";
import { writeDeltaRequest } from "./wire.ts";

export type AdsConnectionState =
  | { readonly phase: "connecting"; readonly attempt: number }
  | { readonly phase: "connected"; readonly sinceMs: number }
  | { readonly phase: "waiting"; readonly attempt: number; readonly untilMs: number; readonly failure: Failure }
  | { readonly phase: "stopped" };

export interface AdsClientDeps {
  /** `host:port` or `unix:/path`. Connected to anew, with the credentials of then, after each loss. */
  readonly target: string;
  readonly security: ClientSecurity;
  /** Read at each connection. */
  readonly node: () => Node;
  /** What is wanted from the start. */
  readonly interests: ReadonlyMap<TypeUrl, Interest>;
  /** Versions of what is in force already, by name: kept from an earlier run, so that only differences come. */
  readonly held?: ReadonlyMap<TypeUrl, ReadonlyMap<string, string>>;
  /**
   * Applies one change, one after the other, in the order in which they came. Returns what it does not take and why:
   * that goes back as a refusal, and the other resources of the change count as taken. What it throws is a bug, and
   * refuses the whole change.
   */
  apply(change: Change): readonly Refusal[] | Promise<readonly Refusal[]>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** From half a second to 30 s unless told otherwise. */
  readonly backoff?: BackoffOptions;
  /** A server that has not said anything by then is left; 20 s unless told otherwise. */
  readonly firstResponseMs?: number;
}

export interface AdsClient {
  readonly state: Cell<AdsConnectionState>;
  /** Changes what is wanted, from `apply` too: then it is asked for before the change is acknowledged. */
  want(typeUrl: TypeUrl, interest: Interest): void;
  /** What is held by name, and what is refused. Survives disconnects. */
  readonly holds: Pick<ClientState, "held" | "refused" | "interest">;
}

/** Starts to connect, and goes on until the scope closes. What was applied stays in force while it is not connected. */
export function startAdsClient(deps: AdsClientDeps, scope: Scope): AdsClient {
  const { clock, log } = deps;
  const held = new ClientState();
  for (const [typeUrl, interest] of deps.interests) held.want(typeUrl, interest);
  for (const [typeUrl, versions] of deps.held ?? []) held.seed(typeUrl, versions);
  const state = new Cell<AdsConnectionState>({ phase: "connecting", attempt: 1 });
  let current: { readonly put: (request: DeltaDiscoveryRequest) => void } | undefined;

  /** One stream, from its first request to its loss. Resolves with whether the server ever said something. */
  async function converse(channel: GrpcChannel, attempt: number): Promise<{ lost: unknown; heard: boolean }> {
    const stream = channel.bidi(AggregatedDiscoveryService.method.deltaAggregatedResources);
    const outbox = new Outbox(stream);
    // A stream is opened by its node; with nothing wanted yet, the first `want` does it.
    let nodeSaid = false;
    const say = (request: DeltaDiscoveryRequest) => {
      outbox.put(nodeSaid ? request : { ...request, node: deps.node() });
      nodeSaid = true;
    };
    current = { put: say };
    for (const request of held.opening()) say(request);
    let heard = false;
    let silent = false;
    // Who wants all of a type is always answered; who wants names only and holds them all may hear nothing for days.
    const answered = [...deps.interests.values()].some(({ all }) => all);
    const connected = () => state.set({ phase: "connected", sinceMs: clock.now() });
    if (!answered) outbox.taken(connected);
    const silence = clock.after(deps.firstResponseMs ?? 20_000, () => {
      silent = answered;
      if (answered) stream.cancel();
    });
    try {
      for await (const response of stream.responses) {
        if (!heard) {
          heard = true;
          silence.cancel();
          log.info({ target: deps.target, attempt }, "discovery connected");
          if (answered) connected();
        }
        say(await answer(response));
      }
      return { lost: new Failure("ads/ended", `"${deps.target}" ended the stream`), heard };
    } catch (lost) {
      if (silent && !heard)
        return { lost: new Failure("ads/silent", `"${deps.target}" did not answer in time`, { cause: lost }), heard };
      return { lost, heard };
    } finally {
      silence.cancel();
      current = undefined;
      stream.cancel();
    }
  }

  async function answer(response: DeltaDiscoveryResponse): Promise<DeltaDiscoveryRequest> {
    const change = held.read(response);
    if (!change)
      return writeDeltaRequest({
        typeUrl: response.typeUrl,
        nonce: response.nonce,
        reason: "nobody asked for this type",
      });
    const refusals = await applied(change);
    if (refusals.length > 0) log.warn({ typeUrl: change.typeUrl, refusals }, "configuration refused");
    return held.settle(change, response.nonce, refusals);
  }

  async function applied(change: Change): Promise<readonly Refusal[]> {
    try {
      return await deps.apply(change);
    } catch (err) {
      log.error({ err, typeUrl: change.typeUrl }, "configuration could not be applied");
      const reason = `internal error: ${explain(err)}`;
      return change.updated.map(({ name }) => ({ name, reason }));
    }
  }

  async function run(): Promise<void> {
    for (let attempt = 1; !scope.closed; attempt++) {
      state.set({ phase: "connecting", attempt });
      const connection = scope.child();
      let lost: unknown;
      let heard = false;
      try {
        const channel = openChannel({ target: deps.target, security: deps.security }, connection);
        ({ lost, heard } = await converse(channel, attempt));
      } catch (caught) {
        lost = caught;
      }
      await connection.close();
      if (scope.closed) break;
      if (heard) attempt = 1;
      const failure = Failure.from(lost);
      const waitMs = backoffMs(attempt, deps.backoff ?? { firstMs: 500, maxMs: 30_000 }, deps.random);
      log.warn({ target: deps.target, attempt, waitMs, err: failure }, "discovery lost, going on with what is held");
      state.set({ phase: "waiting", attempt, untilMs: clock.now() + waitMs, failure });
      await sleep(clock, waitMs, scope.signal).catch(() => {});
    }
    state.set({ phase: "stopped" });
  }

  // The connections of `run` are opened after this, so closing cuts them before it waits for their end.
  let running = Promise.resolve();
  scope.defer(() => running);
  running = run();
  return {
    state,
    holds: held,
    want(typeUrl, interest) {
      const request = held.want(typeUrl, interest);
      if (request) current?.put(request);
    },
  };
}

/** Requests in the order in which they were made, one write at a time. */
class Outbox {
  readonly #stream: ClientStream<DeltaDiscoveryRequest, unknown>;
  #last: Promise<void> = Promise.resolve();
  #onTaken: (() => void) | undefined;

  constructor(stream: ClientStream<DeltaDiscoveryRequest, unknown>) {
    this.#stream = stream;
  }

  put(request: DeltaDiscoveryRequest): void {
    // A write that fails ends the stream, and who reads the responses hears why.
    this.#last = this.#last
      .then(() => this.#stream.send(request))
      .then(
        () => this.#onTaken?.(),
        () => {},
      )
      .finally(() => {
        this.#onTaken = undefined;
      });
  }

  /** Calls `then` when the transport has taken the first request: the server is there. */
  taken(then: () => void): void {
    this.#onTaken = then;
  }
}
