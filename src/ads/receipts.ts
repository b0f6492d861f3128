import type { Versioned } from "../proto/index.ts";
import type { Origin } from "../values/index.ts";

/** A resource that a proxy would not take, in the version that it would not take. */
export interface RefusedResource {
  readonly name: string;
  readonly version: string;
  readonly origins: readonly Origin[];
  /** The proxy's words. */
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly atMs: number;
}

/** How far one proxy is with one type. Times are milliseconds since the epoch. */
export interface Receipt {
  /** The node id. One proxy may have several streams; the last one to speak is what counts. */
  readonly proxy: string;
  readonly typeUrl: string;
  readonly sent: { readonly nonce: string; readonly atMs: number; readonly resources: number; readonly bytes: number };
  /** Undefined until the proxy took a response. */
  readonly acked: { readonly nonce: string; readonly atMs: number } | undefined;
  /** The last refusal, until a later response is taken. Its resources may be fewer than were sent: those it named. */
  readonly nacked: { readonly nonce: string; readonly atMs: number; readonly reason: string } | undefined;
  /** By name: what the proxy refuses still, also after other resources were taken. */
  readonly refused: ReadonlyMap<string, RefusedResource>;
}

/** `synced`: it runs what it was sent; `waiting`: no answer yet; `refusing`: it said no to some of it. */
export function receiptState(receipt: Receipt): "synced" | "waiting" | "refusing" {
  if (receipt.nacked?.nonce === receipt.sent.nonce || receipt.refused.size > 0) return "refusing";
  return receipt.acked?.nonce === receipt.sent.nonce ? "synced" : "waiting";
}

type SentResponse = {
  readonly nonce: string;
  readonly resources: readonly Versioned[];
  readonly removed: readonly string[];
};

/** What every connected proxy was sent and said. Forgotten when its last stream is gone. */
export class Receipts {
  readonly #byProxy = new Map<string, Map<string, Receipt>>();
  readonly #watchers = new Set<(receipt: Receipt) => void>();

  sent(
    at: { readonly proxy: string; readonly typeUrl: string; readonly atMs: number },
    say: SentResponse,
    bytes: number,
  ) {
    const before = this.of(at.proxy).get(at.typeUrl);
    this.#set({
      proxy: at.proxy,
      typeUrl: at.typeUrl,
      sent: { nonce: say.nonce, atMs: at.atMs, resources: say.resources.length, bytes },
      acked: before?.acked,
      nacked: before?.nacked,
      refused: before?.refused ?? new Map(),
    });
  }

  acked(at: { readonly proxy: string; readonly typeUrl: string; readonly atMs: number }, response: SentResponse): void {
    const before = this.of(at.proxy).get(at.typeUrl);
    if (!before) return;
    const refused = new Map(before.refused);
    for (const { name } of response.resources) refused.delete(name);
    for (const name of response.removed) refused.delete(name);
    this.#set({ ...before, acked: { nonce: response.nonce, atMs: at.atMs }, nacked: undefined, refused });
  }

  /** Returns the resources that it is about, as well as the reason tells. */
  refused(
    at: { readonly proxy: string; readonly typeUrl: string; readonly atMs: number },
    response: SentResponse,
    reason: string,
  ): readonly Versioned[] {
    const blamed = blame(reason, response.resources);
    const before = this.of(at.proxy).get(at.typeUrl);
    if (!before) return blamed;
    const refused = new Map(before.refused);
    for (const { name } of response.resources) refused.delete(name);
    for (const { name, version, origins } of blamed)
      refused.set(name, { name, version, origins, reason, atMs: at.atMs });
    this.#set({ ...before, nacked: { nonce: response.nonce, atMs: at.atMs, reason }, refused });
    return blamed;
  }

  /** By type. Empty for a proxy that is not connected. */
  of(proxy: string): ReadonlyMap<string, Receipt> {
    return this.#byProxy.get(proxy) ?? new Map();
  }

  proxies(): readonly string[] {
    return [...this.#byProxy.keys()];
  }

  all(): readonly Receipt[] {
    return [...this.#byProxy.values()].flatMap((byType) => [...byType.values()]);
  }

  /** Calls `notify` with each receipt that changed, and with each one's last state when its proxy leaves. */
  subscribe(notify: (receipt: Receipt) => void): () => void {
    const watcher = (receipt: Receipt) => notify(receipt);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  forget(proxy: string): void {
    const gone = this.#byProxy.get(proxy);
    this.#byProxy.delete(proxy);
    for (const receipt of gone?.values() ?? []) this.#tell(receipt);
  }

  #set(receipt: Receipt): void {
    const byType = this.#byProxy.get(receipt.proxy) ?? new Map<string, Receipt>();
    byType.set(receipt.typeUrl, receipt);
    this.#byProxy.set(receipt.proxy, byType);
    this.#tell(receipt);
  }

  #tell(receipt: Receipt): void {
    for (const notify of [...this.#watchers]) notify(receipt);
  }
}

/**
 * Which of the resources a refusal is about. Proxies say it in prose with the names in it; a name inside a longer name
 * does not count. When none is named and only one was sent, it is that one; else nobody can say.
 */
export function blame(reason: string, resources: readonly Versioned[]): readonly Versioned[] {
  const named = resources.filter(({ name }) => name !== "" && mentions(reason, name));
  if (named.length > 0) return named;
  return resources.length === 1 ? resources : [];
}

const insideName = /[\w|*~-]/;

function mentions(text: string, name: string): boolean {
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
    const before = text[at - 1] ?? " ";
    const after = text.slice(at + name.length);
    // A dot or colon ends a sentence or a name, or goes on with a longer name.
    const goesOn = /^[\w|*~-]|^[.:][\w|*]/.test(after);
    if (!insideName.test(before) && before !== "." && !goesOn) return true;
  }
  return false;
}
