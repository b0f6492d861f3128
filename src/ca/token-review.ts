import { createHash } from "node:crypto";
import { type Clock, explain, Failure } from "../base/index.ts";
import { subjectForm, type TokenVerdict, type TokenVerifier, tokenAudience, tokenLimit } from "./tokens.ts";

/** What Kubernetes says of a token: the `status` of a TokenReview (authentication.k8s.io/v1). Nothing in it is trusted. */
export interface TokenReviewStatus {
  readonly authenticated?: unknown;
  readonly audiences?: unknown;
  readonly error?: unknown;
  readonly user?: { readonly username?: unknown; readonly groups?: unknown };
}

/** Asks a cluster. Throws when no answer could be had. */
export type ReviewToken = (token: string, audience: string) => Promise<TokenReviewStatus | undefined>;

export interface TokenReviewOptions {
  readonly review: ReviewToken;
  readonly clock: Clock;
  readonly audience?: string;
}

/** A yes is remembered so long: a pod that was deleted meanwhile gets certificates for that time at most. */
const yesMs = 30_000;
/** A no is remembered so long: somebody may be repairing what made it one. */
const noMs = 2_000;
const remembered = 10_000;
/** Questions under way at once, and those that may wait for one of them to end. */
const atOnce = 16;
const mayWait = 2_000;
const longestReason = 200;

/**
 * Checks service account tokens by asking the cluster that made them, and remembers for a moment what it said, by the
 * token's hash. What cannot be such a token is refused unasked, so that nobody can keep an API server busy with noise.
 */
export function createTokenReviewer({ review, clock, audience = tokenAudience }: TokenReviewOptions): TokenVerifier {
  const known = new Map<string, { readonly verdict: TokenVerdict; readonly untilMs: number }>();
  const asking = new Map<string, Promise<TokenVerdict>>();
  const gate = new Gate(atOnce, mayWait);

  async function ask(token: string, hash: string, leftMs: number): Promise<TokenVerdict> {
    const status = await gate.run(async () => {
      try {
        return await review(token, audience);
      } catch (cause) {
        throw new Failure("ca/token-review", `the cluster could not be asked about a token: ${explain(cause)}`, {
          hint: "the caller is to come again",
          cause,
        });
      }
    });
    const verdict = verdictOf(status, audience);
    const untilMs = clock.monotonic() + (verdict.ok ? Math.min(yesMs, leftMs) : noMs);
    known.delete(hash);
    known.set(hash, { verdict, untilMs });
    if (known.size > remembered) known.delete(known.keys().next().value!);
    return verdict;
  }

  return {
    async verify(token) {
      const claims = claimsOf(token);
      if (typeof claims === "string") return { ok: false, reason: claims };
      const leftMs = claims.expiresMs - clock.now();
      if (leftMs <= 0) return { ok: false, reason: "token refused: it has expired" };
      const hash = createHash("sha256").update(token).digest("base64");
      const found = known.get(hash);
      if (found && clock.monotonic() < found.untilMs) return found.verdict;
      const under = asking.get(hash);
      if (under !== undefined) return await under;
      const answer = ask(token, hash, leftMs).finally(() => asking.delete(hash));
      asking.set(hash, answer);
      return await answer;
    },
  };
}

/** Tries one after the other; the first that knows the token decides. Throws when none did and one could not be asked. */
export function anyVerifier(verifiers: readonly TokenVerifier[]): TokenVerifier {
  return {
    async verify(token) {
      const reasons: string[] = [];
      for (const verifier of verifiers) {
        const verdict = await verifier.verify(token);
        if (verdict.ok) return verdict;
        reasons.push(verdict.reason);
      }
      return { ok: false, reason: reasons.join("; ") };
    },
  };
}

/** What a token says of itself, unproven: enough to see whether asking makes sense. A text says why it does not. */
function claimsOf(token: string): { readonly expiresMs: number } | string {
  if (token.length > tokenLimit) return `token of ${token.length} characters, more than ${tokenLimit}`;
  const [, payload] = /^[\w-]+\.([\w-]+)\.[\w-]+$/.exec(token) ?? [];
  let claims: { sub?: unknown; exp?: unknown } | null;
  try {
    claims = JSON.parse(Buffer.from(payload ?? "", "base64url").toString("utf8"));
  } catch {
    return "token refused: it is malformed";
  }
  if (typeof claims?.sub !== "string" || !subjectForm.test(claims.sub))
    return "token's subject is no service account (system:serviceaccount:<namespace>:<name>)";
  return { expiresMs: typeof claims.exp === "number" ? claims.exp * 1_000 : Number.POSITIVE_INFINITY };
}

function verdictOf(status: TokenReviewStatus | undefined, audience: string): TokenVerdict {
  if (status?.authenticated !== true) {
    const why = typeof status?.error === "string" ? status.error.slice(0, longestReason) : "it is not authenticated";
    return { ok: false, reason: `token refused by the cluster: ${why}` };
  }
  // A server that knows nothing of audiences says none, and has not looked at ours.
  if (!Array.isArray(status.audiences) || !status.audiences.includes(audience))
    return { ok: false, reason: `token refused: it is not meant for "${audience}"` };
  const { username, groups } = status.user ?? {};
  const [, namespace, serviceAccount] = subjectForm.exec(typeof username === "string" ? username : "") ?? [];
  const isAccount = Array.isArray(groups) && groups.includes("system:serviceaccounts");
  if (!isAccount || namespace === undefined || serviceAccount === undefined)
    return { ok: false, reason: "token refused: it is no service account's" };
  return { ok: true, namespace, serviceAccount };
}

/** So many at once; the others wait, up to a limit. */
class Gate {
  #free: number;
  readonly #waiting: Array<() => void> = [];
  readonly #mayWait: number;

  constructor(free: number, mayWait: number) {
    this.#free = free;
    this.#mayWait = mayWait;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else if (this.#waiting.length < this.#mayWait) await new Promise<void>((go) => this.#waiting.push(go));
    else
      throw new Failure("ca/token-review", `${this.#waiting.length} tokens wait to be asked about already`, {
        hint: "the caller is to come again",
      });
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
