import { type Clock, explain } from "../base/index.ts";
import { parseSpiffeId, type SpiffeId } from "../values/index.ts";
import { type Certificate, decodeCertificate } from "./certificate.ts";
import type { TokenVerifier } from "./tokens.ts";
import { leafIdentity } from "./trust.ts";

/** What a caller shows of itself. */
export interface Evidence {
  /** DER of its client certificate, whose chain and key the TLS handshake has verified. */
  readonly certificate?: Uint8Array | undefined;
  /** The values of `authorization`. */
  readonly authorization: readonly string[];
}

export type CallerVerdict =
  | { readonly ok: true; readonly identity: SpiffeId; readonly by: "certificate" | "token" }
  | { readonly ok: false; readonly reason: string };

/** Who is asking. The first proof that holds counts: the certificate, then the token. */
export interface Callers {
  identify(evidence: Evidence): Promise<CallerVerdict>;
}

export function createCallers(deps: {
  readonly trustDomain: string;
  readonly clock: Clock;
  /** Without one, only certificates count. */
  readonly tokens: TokenVerifier | undefined;
}): Callers {
  const trustDomains = new Set([deps.trustDomain]);
  const byCertificate = (der: Uint8Array): CallerVerdict => {
    let leaf: Certificate;
    try {
      leaf = decodeCertificate(der);
    } catch (caught) {
      return { ok: false, reason: explain(caught) };
    }
    const verdict = leafIdentity(leaf, { nowMs: deps.clock.now(), role: "client", trustDomains });
    return verdict.ok ? { ...verdict, by: "certificate" } : { ok: false, reason: verdict.reason };
  };
  const byToken = async (authorization: readonly string[]): Promise<CallerVerdict> => {
    const [value, ...more] = authorization;
    if (more.length > 0) return { ok: false, reason: "more than one authorization was sent" };
    const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(value ?? "")?.[1];
    if (token === undefined) return { ok: false, reason: "authorization is no bearer token" };
    if (!deps.tokens) return { ok: false, reason: "tokens are not accepted here" };
    const verdict = await deps.tokens.verify(token);
    if (!verdict.ok) return verdict;
    const identity = parseSpiffeId(`spiffe://${deps.trustDomain}/ns/${verdict.namespace}/sa/${verdict.serviceAccount}`);
    if (!identity) return { ok: false, reason: "token's subject makes no identity" };
    return { ok: true, identity, by: "token" };
  };
  return {
    async identify({ certificate, authorization }) {
      const reasons: string[] = [];
      if (certificate) {
        const verdict = byCertificate(certificate);
        if (verdict.ok) return verdict;
        reasons.push(verdict.reason);
      }
      if (authorization.length > 0) {
        const verdict = await byToken(authorization);
        if (verdict.ok) return verdict;
        reasons.push(verdict.reason);
      }
      return { ok: false, reason: reasons.join("; ") || "neither a client certificate nor a bearer token was shown" };
    },
  };
}
