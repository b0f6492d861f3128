import type { Clock, Logger } from "../../base/index.ts";
import type { SocketAddress } from "../../values/index.ts";
import type { ClusterConfig } from "../config/cluster.ts";
import type { ProxyConfig } from "../config/store.ts";
import type { TlsContexts } from "../tls/contexts.ts";
import { RunningCluster } from "./cluster.ts";
import { NameWatch, type Resolution, type ResolveName } from "./resolve.ts";
import type { Upstream, Upstreams } from "./upstream.ts";

interface Entry {
  readonly config: ClusterConfig;
  readonly cluster: RunningCluster;
  readonly names: NameWatch | undefined;
  assigned: unknown;
}

/** The clusters that run now, by name, kept in step with the configuration. */
export class Clusters implements Upstreams {
  readonly #entries = new Map<string, Entry>();
  readonly #deps: ClustersDeps;

  constructor(deps: ClustersDeps) {
    this.#deps = deps;
  }

  get(name: string): Upstream | undefined {
    return this.#entries.get(name)?.cluster;
  }

  all(): readonly RunningCluster[] {
    return [...this.#entries.values()].map(({ cluster }) => cluster);
  }

  /** Whether a cluster waits for a first answer about a name. */
  waiting(name: string): boolean {
    return this.#entries.get(name)?.names?.waiting ?? false;
  }

  /** New ones are there before old ones go. A cluster whose configuration is the same object is not touched. */
  follow(config: Pick<ProxyConfig, "clusters" | "endpoints">): void {
    for (const [name, wanted] of config.clusters) {
      let entry = this.#entries.get(name);
      if (entry?.config !== wanted) {
        const before = entry;
        entry = this.#start(wanted);
        this.#entries.set(name, entry);
        if (before) stop(before);
      }
      if (wanted.discovery.kind !== "eds") continue;
      const assignment = config.endpoints.get(wanted.discovery.serviceName);
      if (assignment && assignment !== entry.assigned) {
        entry.assigned = assignment;
        entry.cluster.assign(assignment);
      }
    }
    for (const [name, entry] of this.#entries) {
      if (config.clusters.has(name)) continue;
      this.#entries.delete(name);
      stop(entry);
    }
  }

  stop(): void {
    for (const entry of this.#entries.values()) stop(entry);
    this.#entries.clear();
  }

  #start(config: ClusterConfig): Entry {
    const cluster = new RunningCluster(config, this.#deps);
    const { discovery } = config;
    if (discovery.kind === "static") cluster.assign(discovery.assignment);
    const names =
      discovery.kind === "dns"
        ? // What others know of a name already serves this one from its first moment, also where it takes the place of one.
          new NameWatch(discovery, { ...this.#deps, known: (host) => this.#knownOf(host) }, (resolved) =>
            cluster.assign(discovery.assignment, resolved),
          )
        : undefined;
    const first = names?.start();
    if (first !== undefined) cluster.settle(first);
    return { config, cluster, names, assigned: undefined };
  }

  #knownOf(host: string): Resolution | undefined {
    for (const { names } of this.#entries.values()) {
      const known = names?.knownOf(host);
      if (known?.kind === "resolved") return known;
    }
    return undefined;
  }
}

export interface ClustersDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly contexts: TlsContexts;
  readonly resolve: ResolveName;
  readonly isOwn: (address: SocketAddress) => boolean;
}

function stop({ cluster, names }: Entry): void {
  names?.stop();
  cluster.end();
}
