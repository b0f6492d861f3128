import net from "node:net";
import { getSystemErrorName } from "node:util";
import { ipFamily, type SocketAddress } from "../../values/index.ts";

/** A bound socket that nobody reads here: workers listen on copies of it. */
export interface SharedHandle {
  close(): void;
}

/** Binds an address; the code of the system (`EADDRINUSE`) when it cannot be had. */
export type BindHandle = (address: SocketAddress) => SharedHandle | string;

/**
 * The runtime's own way to bind without accepting, which it uses to share sockets among processes and documents nowhere;
 * this file alone relies on it. Undefined where a later runtime has it no more.
 */
export function handleBinder(): BindHandle | undefined {
  const { _createServerHandle: create } = net as unknown as {
    readonly _createServerHandle?: (
      ip: string,
      port: number,
      family: number,
      fd: undefined,
      flags: number,
    ) => SharedHandle | number;
  };
  if (typeof create !== "function") return undefined;
  return ({ ip, port }) => {
    const bound = create(ip, port, ipFamily(ip), undefined, ip.includes(":") && ip !== "::" ? onlyIpv6 : 0);
    return typeof bound === "number" ? getSystemErrorName(bound) : bound;
  };
}

const onlyIpv6 = 1;

interface Shared {
  readonly handle: SharedHandle;
  readonly workers: Set<number>;
}

/**
 * The sockets that all workers listen on, each bound once. One that the configuration wants stays open while no worker
 * listens on it: who connects meanwhile waits in its queue for the worker to come.
 */
export class SharedSockets {
  readonly #bind: BindHandle;
  readonly #sockets = new Map<string, Shared>();
  #wanted: ReadonlySet<string> = new Set();
  #closed = false;

  constructor(bind: BindHandle) {
    this.#bind = bind;
  }

  /** The socket of an address for one more worker, or the code that says why there is none. */
  take(key: string, address: SocketAddress, worker: number): SharedHandle | string {
    // As when an address is unbound while it is asked for: whoever asks is on its way out as well.
    if (this.#closed) return "ECANCELED";
    const known = this.#sockets.get(key);
    if (known) {
      known.workers.add(worker);
      return known.handle;
    }
    const handle = this.#bind(address);
    if (typeof handle === "string") return handle;
    this.#sockets.set(key, { handle, workers: new Set([worker]) });
    return handle;
  }

  release(key: string, worker: number): void {
    const shared = this.#sockets.get(key);
    if (shared?.workers.delete(worker)) this.#sweep(key, shared);
  }

  /** The worker is gone. */
  releaseAll(worker: number): void {
    for (const key of [...this.#sockets.keys()]) this.release(key, worker);
  }

  /** What the configuration wants from now on. */
  retain(wanted: ReadonlySet<string>): void {
    this.#wanted = wanted;
    for (const [key, shared] of [...this.#sockets]) this.#sweep(key, shared);
  }

  /** Binds nothing any more, and closes what is there: it goes when the last worker has closed its copy. */
  close(): void {
    this.#closed = true;
    for (const { handle } of this.#sockets.values()) handle.close();
    this.#sockets.clear();
  }

  #sweep(key: string, shared: Shared): void {
    if (shared.workers.size > 0 || this.#wanted.has(key)) return;
    this.#sockets.delete(key);
    shared.handle.close();
  }
}
