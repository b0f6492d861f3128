import { formatSocketAddress } from "../values/index.ts";
import type { ChainConfig, ListenerConfig } from "./config/listener.ts";
import { type Stop, Stopper } from "./l4/stop.ts";

/** A chain while it runs: who it serves, and the two signals that end them. */
export class RunningChain {
  readonly config: ChainConfig;
  readonly #draining = new Stopper();
  readonly #ending = new Stopper();
  #open = 0;

  constructor(config: ChainConfig) {
    this.config = config;
  }

  get open(): number {
    return this.#open;
  }
  /** Finish what runs, take nothing new. */
  get draining(): Stop {
    return this.#draining;
  }
  /** End now. */
  get ending(): Stop {
    return this.#ending;
  }

  enter(): () => void {
    this.#open++;
    let left = false;
    return () => {
      if (!left) this.#open--;
      left = true;
    };
  }

  drain(): void {
    this.#draining.abort();
  }

  end(): void {
    this.#draining.abort();
    this.#ending.abort();
  }
}

/** A listener while it runs. A change makes a new one that takes over the chains that stayed the same. */
export interface RunningListener {
  readonly config: ListenerConfig;
  readonly chains: readonly RunningChain[];
  readonly fallback: RunningChain | undefined;
}

/** The listener for `config`, with chains of `before` that are the same, and the chains that it no longer has. */
export function follow(
  config: ListenerConfig,
  before: RunningListener | undefined,
): { readonly listener: RunningListener; readonly left: readonly RunningChain[] } {
  const old = chainsOf(before);
  const byDigest = new Map(old.map((chain) => [chain.config.digest, chain]));
  const take = (chain: ChainConfig) => byDigest.get(chain.digest) ?? new RunningChain(chain);
  const listener = {
    config,
    chains: config.chains.map(take),
    fallback: config.defaultChain && take(config.defaultChain),
  };
  const kept = new Set(chainsOf(listener));
  return { listener, left: old.filter((chain) => !kept.has(chain)) };
}

export function chainsOf(listener: RunningListener | undefined): readonly RunningChain[] {
  if (!listener) return [];
  return listener.fallback ? [...listener.chains, listener.fallback] : listener.chains;
}

/** Listeners without a socket of their own, by the address that they answer for. */
export function virtualListeners(listeners: Iterable<RunningListener>): ReadonlyMap<string, RunningListener> {
  const byAddress = new Map<string, RunningListener>();
  for (const listener of listeners) {
    if (listener.config.bind) continue;
    for (const address of listener.config.addresses) byAddress.set(formatSocketAddress(address), listener);
  }
  return byAddress;
}
