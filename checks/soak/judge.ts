// What each answer must be, and when a request may fail. Pure: times are handed in, in ms.

/** `cluster2 v1`: the pods of one version in one cluster. */
export type Backend = string;

/** Who may answer a host: requests without a mark, and those with `x-soak-version`. Nobody, where a list is empty. */
export interface Allowed {
  readonly plain: readonly Backend[];
  readonly marked: readonly Backend[];
}

/** A request and what became of it, as the caller tells it. */
export interface Result {
  readonly caller: string;
  readonly cluster: string;
  readonly kind: "http" | "tcp";
  readonly host: string;
  readonly path: string;
  readonly marked: boolean;
  readonly start: number;
  readonly end: number;
  /** 0 when there was no answer. */
  readonly status: number;
  readonly error?: string;
  /** An answer that is another's, as the caller sees it. */
  readonly wrong?: string;
  readonly answer?: {
    readonly cluster: string;
    readonly version: string;
    readonly pod: string;
    readonly path?: string;
    /** What the server's proxy said of the caller: X-Forwarded-Client-Cert. */
    readonly xfcc?: string;
  };
}

/** Something is away, and what had to go there has no other place. */
export interface Outage {
  /** As it is counted. */
  readonly why: string;
  readonly hits: (result: Result, among: readonly Backend[]) => boolean;
  readonly from: number;
  until: number;
}

export type Verdict =
  | { readonly kind: "right" }
  /** Nobody was to answer, and nobody did. */
  | { readonly kind: "rightly-none" }
  | { readonly kind: "exempt"; readonly why: string }
  /** Somebody answered who must not, or to somebody else's question, or took the caller for another. */
  | { readonly kind: "wrong"; readonly what: string }
  /** It failed although who was to answer was there. */
  | { readonly kind: "failed"; readonly what: string };

interface Rule {
  readonly allowed: Allowed;
  readonly from: number;
  /** When the one after it was in force everywhere. */
  until: number;
}

export class Judge {
  readonly #rules = new Map<string, Rule[]>();
  readonly #outages: Outage[] = [];

  /**
   * From `now` on a host may be answered by these too; by those of before until the function that is returned is called
   * with the time from which the change holds at every proxy.
   */
  change(host: string, allowed: Allowed, now: number): (holdsFrom: number) => void {
    const rules = this.#rules.get(host) ?? [];
    this.#rules.set(host, rules);
    const before = rules.filter(({ until }) => until === Number.POSITIVE_INFINITY);
    rules.push({ allowed, from: now, until: Number.POSITIVE_INFINITY });
    return (holdsFrom) => {
      for (const rule of before) rule.until = Math.min(rule.until, holdsFrom);
    };
  }

  /** Whether no change of the host is on its way. */
  settled(host: string): boolean {
    return this.#open(host).length <= 1;
  }

  /** What holds for the host, or will when all changes have arrived. */
  latest(host: string): Allowed | undefined {
    return this.#open(host).at(-1)?.allowed;
  }

  #open(host: string): readonly Rule[] {
    return (this.#rules.get(host) ?? []).filter(({ until }) => until === Number.POSITIVE_INFINITY);
  }

  /** Begins an outage; it lasts until the function that is returned is called. */
  outage(outage: Pick<Outage, "why" | "hits" | "from">): (endedAt: number) => void {
    const begun: Outage = { ...outage, until: Number.POSITIVE_INFINITY };
    this.#outages.push(begun);
    return (endedAt) => {
      begun.until = endedAt;
    };
  }

  verdictOn(result: Result): Verdict {
    const { start, end, host, marked, answer, status } = result;
    const rules = (this.#rules.get(host) ?? []).filter(({ from, until }) => from <= end && until >= start);
    const lists = rules.map(({ allowed }) => (marked ? allowed.marked : allowed.plain));
    const among = [...new Set(lists.flat())];
    if (result.wrong !== undefined) return { kind: "wrong", what: result.wrong };
    if (status === 200 && answer) {
      const wrong = wrongIn(result, answer, among);
      return wrong === undefined ? { kind: "right" } : { kind: "wrong", what: wrong };
    }
    if (lists.some((list) => list.length === 0)) return { kind: "rightly-none" };
    const outage = this.#outages.find(({ from, until, hits }) => from <= end && until >= start && hits(result, among));
    if (outage) return { kind: "exempt", why: outage.why };
    return { kind: "failed", what: result.error ?? `status ${status}` };
  }
}

function wrongIn(result: Result, answer: NonNullable<Result["answer"]>, among: readonly Backend[]): string | undefined {
  const by = `${answer.cluster} ${answer.version}`;
  if (!among.includes(by)) return `answered by ${by} (${answer.pod}), allowed: ${among.join(", ") || "nobody"}`;
  if (result.kind === "tcp") return undefined;
  if (answer.path !== result.path) return `the answer is to "${answer.path}"`;
  const uri = /(?:^|[;,])URI=([^;,]*)/.exec(answer.xfcc ?? "")?.[1];
  if (uri !== result.caller) return `the caller was taken for "${uri ?? "nobody"}" (${answer.xfcc ?? "no header"})`;
  return undefined;
}
