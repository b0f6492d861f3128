import { backoffMs, type Clock, Failure, type Scope, sleep } from "../base/index.ts";
import type { KubeClient } from "./client.ts";
import { listPages } from "./list.ts";
import { type Collection, type KubeObject, objectName } from "./object.ts";
import { KubeRefusal } from "./refusal.ts";
import { type WatchEvent, watchCollection } from "./watch.ts";

export type Change<T> =
  | { readonly kind: "set"; readonly name: string; readonly value: T }
  | { readonly kind: "deleted"; readonly name: string };

/** Who keeps what a reflector sees. Each call is one change, to be shown whole. */
export interface ReflectorSink<T> {
  /** All there is, by `namespace/name` (or `name`). What was there before and is not in it is gone. */
  listed(all: ReadonlyMap<string, T>): void;
  changed(changes: readonly Change<T>[]): void;
  /** The API is away, or away no more: what was told stays in force meanwhile. */
  health(health: ReflectorHealth): void;
}

export type ReflectorHealth =
  | { readonly kind: "current" }
  /** Since when (milliseconds since the Unix epoch), and why. */
  | { readonly kind: "behind"; readonly since: number; readonly failure: Failure };

/** Watches are asked to last so long, in seconds, and not all equally long, so that they do not come back together. */
const watchSeconds = { least: 240, most: 300 };
const retry = { firstMs: 200, maxMs: 30_000 };
/** A watch that ended before this, and said nothing, counts as a failure: or a server that closes at once would be asked without end. */
const shortestWatchMs = 1_000;

/**
 * Follows a collection for as long as the scope lasts: list, then watch from there; the watch again from the last
 * version seen when it ends; the list again when the server forgot that version. `read` makes of an object what is
 * kept, at once, so that a long list is never held as it came. Never gives up: waits longer and longer, and says so.
 */
export function startReflector<T>(
  options: {
    readonly client: KubeClient;
    readonly collection: Collection;
    readonly read: (object: KubeObject) => T;
    readonly sink: ReflectorSink<T>;
    readonly clock: Clock;
    readonly random: () => number;
  },
  scope: Scope,
): void {
  const run = new Reflector(options, scope).run();
  scope.defer(() => run);
}

type Options<T> = Parameters<typeof startReflector<T>>[0];

class Reflector<T> {
  readonly #options: Options<T>;
  readonly #scope: Scope;
  /** Where the watch goes on; undefined: list first. */
  #version: string | undefined;
  #failures = 0;
  #behindSince: number | undefined;

  constructor(options: Options<T>, scope: Scope) {
    this.#options = options;
    this.#scope = scope;
  }

  async run(): Promise<void> {
    while (!this.#scope.closed) {
      const listing = this.#version === undefined;
      const failure = this.#version === undefined ? await this.#list() : await this.#watch(this.#version);
      if (this.#scope.closed) return;
      if (failure) await this.#wait(failure, listing);
    }
  }

  async #list(): Promise<Failure | undefined> {
    const { client, collection, read, sink } = this.#options;
    const all = new Map<string, T>();
    let version: string | undefined;
    try {
      for await (const page of listPages(client, collection, this.#scope.signal)) {
        for (const object of page.objects) all.set(objectName(object), read(object));
        // The first page's version is that of all: later pages are of the same moment.
        version ??= page.resourceVersion;
      }
    } catch (caught) {
      return Failure.from(caught, "kube/list");
    }
    this.#version = version;
    this.#current();
    sink.listed(all);
    return undefined;
  }

  async #watch(resourceVersion: string): Promise<Failure | undefined> {
    const { client, collection, clock, random } = this.#options;
    const seconds = Math.round(watchSeconds.least + (watchSeconds.most - watchSeconds.least) * random());
    const began = clock.monotonic();
    let heard = false;
    const end = await watchCollection({
      client,
      collection,
      resourceVersion,
      seconds,
      clock,
      signal: this.#scope.signal,
      take: (events) => {
        heard = true;
        this.#failures = 0;
        this.#current();
        this.#take(events);
      },
    });
    switch (end.kind) {
      case "gone":
        this.#version = undefined;
        // A server that says so of a version that it has just given is asked less and less often.
        return heard
          ? undefined
          : new Failure("kube/gone", `the server no longer knows version ${resourceVersion} of ${collection.plural}`);
      case "failed":
        return end.failure;
      case "closed": {
        const early = !heard && clock.monotonic() - began < shortestWatchMs;
        if (!early) this.#failures = 0;
        return early ? new Failure("kube/watch", `the watch of ${collection.plural} was closed at once`) : undefined;
      }
    }
  }

  #take(events: readonly WatchEvent[]): void {
    const { read, sink } = this.#options;
    const changes: Change<T>[] = [];
    for (const event of events) {
      if (event.kind === "bookmark") {
        this.#version = event.resourceVersion;
        continue;
      }
      this.#version = event.object.metadata.resourceVersion ?? this.#version;
      const name = objectName(event.object);
      if (event.kind === "set") changes.push({ kind: "set", name, value: read(event.object) });
      else changes.push({ kind: "deleted", name });
    }
    if (changes.length > 0) sink.changed(changes);
  }

  #current(): void {
    if (this.#behindSince === undefined) return;
    this.#behindSince = undefined;
    this.#options.sink.health({ kind: "current" });
  }

  async #wait(failure: Failure, listing: boolean): Promise<void> {
    const { clock, random, sink } = this.#options;
    this.#failures++;
    // One cut connection is daily life; what does not come back is news.
    if (this.#failures > 1 || listing) {
      this.#behindSince ??= clock.now();
      sink.health({ kind: "behind", since: this.#behindSince, failure });
    }
    const asked = failure instanceof KubeRefusal ? (failure.retryAfterMs ?? 0) : 0;
    const wait = Math.max(asked, backoffMs(this.#failures, retry, random));
    await sleep(clock, wait, this.#scope.signal).catch(() => {}); // Only the end of the scope wakes it early.
  }
}
