import { type Clock, explain, type Logger, type Timer } from "../../base/index.ts";
import { type Ip, ipFamily, parseIp } from "../../values/index.ts";
import type { Discovery } from "../config/discovery.ts";

/** Asks the name service. `ttlMs` is how long the answer holds, where it says so. Throws when there is none. */
export type ResolveName = (
  host: string,
  family: 4 | 6,
) => Promise<{ readonly addresses: readonly Ip[]; readonly ttlMs?: number | undefined }>;

/** What is known of a name now. After a failure the last good addresses stay. */
export type Resolution =
  | { readonly kind: "resolved"; readonly addresses: readonly Ip[] }
  | { readonly kind: "failed"; readonly reason: string; readonly addresses: readonly Ip[] };

type DnsDiscovery = Extract<Discovery, { kind: "dns" }>;

interface NameWatchDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly resolve: ResolveName;
  /** What is known of a name already, from others that watch it. */
  readonly known?: (host: string) => Resolution | undefined;
}

/** No answer is asked for more often than this, whatever its time to live. */
const leastMs = 1000;

/** Keeps the names of a cluster resolved: asks again after the refresh rate or the answer's own time, and tells of news. */
export class NameWatch {
  readonly #discovery: DnsDiscovery;
  readonly #deps: NameWatchDeps;
  /** Failures in a row, by name. */
  readonly #failures = new Map<string, number>();
  readonly #tell: (resolved: ReadonlyMap<string, Resolution>) => void;
  readonly #known = new Map<string, Resolution>();
  readonly #timers = new Map<string, Timer>();
  /** Names that nothing is known of yet. */
  readonly #unanswered = new Set<string>();
  #stopped = false;

  constructor(discovery: DnsDiscovery, deps: NameWatchDeps, tell: (resolved: ReadonlyMap<string, Resolution>) => void) {
    this.#discovery = discovery;
    this.#deps = deps;
    this.#tell = tell;
  }

  /** Resolves when every name of which nothing was known has been answered or has failed once; undefined where there is nothing to ask. */
  start(): Promise<void> | undefined {
    const hosts = new Set(
      this.#discovery.assignment.localities.flatMap(({ endpoints }) => endpoints.map(({ host }) => host)),
    );
    const asked: Array<Promise<void>> = [];
    for (const host of hosts) {
      const ip = parseIp(host);
      if (ip) {
        this.#known.set(host, { kind: "resolved", addresses: [ip] });
        continue;
      }
      const known = this.#deps.known?.(host);
      if (known) this.#known.set(host, known);
      else this.#unanswered.add(host);
      const answer = this.#ask(host);
      if (!known) asked.push(answer);
    }
    this.#tell(this.#known);
    return asked.length === 0 ? undefined : Promise.all(asked).then(() => {});
  }

  /** Whether there is a name of which nothing is known yet, not even that it has no addresses. */
  get waiting(): boolean {
    return this.#unanswered.size > 0;
  }

  knownOf(host: string): Resolution | undefined {
    return this.#known.get(host);
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  /** Never rejects: a failure is kept as what is known of the name. */
  async #ask(host: string): Promise<void> {
    const { clock, log, random } = this.#deps;
    const { refreshMs, failureRefresh, jitterMs, respectTtl, mode } = this.#discovery;
    let againMs = refreshMs;
    const before = this.#known.get(host);
    let now: Resolution;
    try {
      const { addresses, ttlMs } = await this.#lookup(host);
      this.#failures.delete(host);
      now = {
        kind: "resolved",
        addresses: mode === "logical" ? addresses.slice(0, 1) : [...addresses].sort(),
      };
      if (respectTtl && ttlMs !== undefined) againMs = Math.max(leastMs, ttlMs);
    } catch (caught) {
      const failures = this.#failures.get(host) ?? 0;
      this.#failures.set(host, failures + 1);
      if (failureRefresh)
        againMs = Math.min(failureRefresh.maxMs, failureRefresh.firstMs * 2 ** Math.min(failures, 20));
      now = { kind: "failed", reason: explain(caught), addresses: before?.addresses ?? [] };
      if (before?.kind !== "failed") log.warn({ host, reason: now.reason, kept: now.addresses }, "name not resolved");
    }
    if (this.#stopped) return;
    this.#unanswered.delete(host);
    this.#timers.set(
      host,
      clock.after(againMs + jitterMs * random(), () => void this.#ask(host), { background: true }),
    );
    if (before?.kind === now.kind && before.addresses.join() === now.addresses.join()) return;
    this.#known.set(host, now);
    this.#tell(this.#known);
  }

  async #lookup(host: string): Promise<{ readonly addresses: readonly Ip[]; readonly ttlMs?: number | undefined }> {
    const { resolve } = this.#deps;
    const { family } = this.#discovery;
    if (family === "v4") return resolve(host, 4);
    if (family === "v6") return resolve(host, 6);
    const [four, six] = await Promise.allSettled([resolve(host, 4), resolve(host, 6)]);
    const answers = [four, six].flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    if (answers.length === 0) throw (four as PromiseRejectedResult).reason;
    const addresses = answers.flatMap((answer) => answer.addresses);
    // "auto" takes one family only; mixing them would count one server twice.
    const first = addresses.find((ip) => ipFamily(ip) === 4) ? 4 : 6;
    const ttls = answers.flatMap(({ ttlMs }) => (ttlMs === undefined ? [] : [ttlMs]));
    return {
      addresses: family === "all" ? addresses : addresses.filter((ip) => ipFamily(ip) === first),
      ttlMs: ttls.length > 0 ? Math.min(...ttls) : undefined,
    };
  }
}
