import type { Socket } from "node:net";
import { backoffMs, type Clock, explain, type Logger, type Timer } from "../base/index.ts";
import { formatSocketAddress, type SocketAddress } from "../values/index.ts";
import { type Acceptor, accept, type SharedSocket } from "./l4/acceptor.ts";

/** One address that is bound, or that we try to bind. */
interface Bound {
  /** Name of the listener that its connections go to. It may change while the socket stays. */
  listener: string;
  acceptor: Acceptor | undefined;
  error: string | undefined;
  tries: number;
  retry: Timer | undefined;
  stopped: boolean;
  opening: Promise<void>;
}

/** Where an address is bound by somebody else: gets a socket to listen on, or throws a `Failure`. */
export type BindShared = (address: SocketAddress, key: string) => Promise<SharedSocket>;

export interface SocketsDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly maxConnections: number;
  readonly bind?: BindShared | undefined;
  readonly onConnection: (socket: Socket, listener: string) => void;
  readonly onShed: (reason: "out-of-descriptors" | "too-many-connections") => void;
}

/** The bound sockets. They follow the configuration by address: a listener that changes keeps its socket. */
export class Sockets {
  readonly #bound = new Map<string, Bound>();
  readonly #deps: SocketsDeps;

  constructor(deps: SocketsDeps) {
    this.#deps = deps;
  }

  /** Opens what is new, then closes what is gone. Resolves when each wanted address is bound or has failed once. */
  async follow(wanted: ReadonlyArray<{ readonly address: SocketAddress; readonly listener: string }>): Promise<void> {
    const keys = new Set<string>();
    const opening: Promise<void>[] = [];
    for (const { address, listener } of wanted) {
      const key = socketKey(address, listener);
      keys.add(key);
      const known = this.#bound.get(key);
      if (known) {
        known.listener = listener;
        opening.push(known.opening);
        continue;
      }
      const bound: Bound = {
        listener,
        acceptor: undefined,
        error: undefined,
        tries: 0,
        retry: undefined,
        stopped: false,
        opening: Promise.resolve(),
      };
      this.#bound.set(key, bound);
      bound.opening = this.#open(bound, address, key);
      opening.push(bound.opening);
    }
    await Promise.all(opening);
    for (const [key, bound] of this.#bound) {
      if (keys.has(key)) continue;
      this.#bound.delete(key);
      this.#close(bound);
    }
  }

  /** Where a listener can be reached; empty while it is not bound. */
  addressesOf(listener: string): readonly SocketAddress[] {
    return [...this.#bound.values()].flatMap((bound) =>
      bound.listener === listener && bound.acceptor ? [bound.acceptor.bound] : [],
    );
  }

  /** Every bound address with its listener, or why it is not bound. */
  view(): ReadonlyArray<{ readonly address: string; readonly listener: string; readonly error: string | undefined }> {
    return [...this.#bound].map(([key, { acceptor, listener, error }]) => ({
      address: acceptor ? formatSocketAddress(acceptor.bound) : key,
      listener,
      error,
    }));
  }

  get ports(): ReadonlySet<number> {
    return new Set([...this.#bound.values()].flatMap(({ acceptor }) => (acceptor ? [acceptor.bound.port] : [])));
  }

  close(): void {
    for (const bound of this.#bound.values()) this.#close(bound);
    this.#bound.clear();
  }

  #close(bound: Bound): void {
    bound.stopped = true;
    bound.retry?.cancel();
    void bound.acceptor?.close();
    if (bound.acceptor)
      this.#deps.log.info(
        { address: formatSocketAddress(bound.acceptor.bound), listener: bound.listener },
        "listener unbound",
      );
    bound.acceptor = undefined;
  }

  /** Never rejects: an address that cannot be had is tried again, and shown meanwhile. */
  async #open(bound: Bound, address: SocketAddress, key: string): Promise<void> {
    const { clock, log, random, bind } = this.#deps;
    try {
      const acceptor = await accept({
        address,
        maxConnections: this.#deps.maxConnections,
        clock,
        log,
        bind: bind && ((wanted) => bind(wanted, key)),
        onConnection: (socket) => this.#deps.onConnection(socket, bound.listener),
        onShed: this.#deps.onShed,
      });
      if (bound.stopped) return void acceptor.close();
      bound.acceptor = acceptor;
      bound.error = undefined;
      log.info({ address: formatSocketAddress(acceptor.bound), listener: bound.listener }, "listener bound");
    } catch (caught) {
      if (bound.stopped) return;
      bound.error = explain(caught);
      bound.tries++;
      log.error({ listener: bound.listener, err: caught }, "listener not bound; trying again");
      const waitMs = backoffMs(bound.tries, { firstMs: 200, maxMs: 10_000 }, random);
      bound.retry = clock.after(waitMs, () => void this.#open(bound, address, key), { background: true });
    }
  }
}

/** What tells sockets apart. Port 0 is another port each time: it belongs to its listener. */
export function socketKey(address: SocketAddress, listener: string): string {
  return address.port === 0 ? `${address.ip}:0 ${listener}` : formatSocketAddress(address);
}
