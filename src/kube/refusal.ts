import { Failure } from "../base/index.ts";
import type { KubeAccess } from "./kubeconfig.ts";

/** A refusal of the API server, with what its `Status` said. */
export class KubeRefusal extends Failure {
  readonly status: number;
  /** The server asked to be left alone for so long, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Kubernetes' word for why, where it gave one: `AlreadyExists`, `NamespaceTerminating`. */
  readonly reason: string | undefined;

  constructor(
    code: string,
    message: string,
    known: {
      readonly status: number;
      readonly retryAfterMs: number | undefined;
      readonly reason?: string | undefined;
      readonly hint?: string;
    },
  ) {
    super(code, message, known.hint === undefined ? {} : { hint: known.hint });
    this.status = known.status;
    this.retryAfterMs = known.retryAfterMs;
    this.reason = known.reason;
  }
}

interface Row {
  readonly code: string;
  readonly hint?: string;
}

const byStatus: Readonly<Record<number, Row>> = {
  401: { code: "kube/unauthorized", hint: "the credentials are wrong or have ended" },
  403: { code: "kube/forbidden", hint: "the account lacks this right: see kubectl auth can-i" },
  404: { code: "kube/not-found" },
  409: { code: "kube/conflict" },
  410: { code: "kube/gone" },
  422: { code: "kube/invalid" },
  429: { code: "kube/throttled" },
};

/** From an answer's status and body to a failure in the server's own words. */
export function refusal(answer: {
  readonly status: number;
  readonly text: string;
  readonly method: string;
  readonly path: string;
  readonly access: KubeAccess;
}): KubeRefusal {
  const { status, text, method, path, access } = answer;
  const said = statusOf(text);
  const row = byStatus[status] ?? { code: status >= 500 ? "kube/server-error" : "kube/refused" };
  const words = said.message ?? (text.trim().slice(0, 300) || "without a word");
  const seconds = said.details?.retryAfterSeconds;
  return new KubeRefusal(row.code, `${method} ${path} at "${access.server}" gave ${status}: ${words}`, {
    status,
    reason: said.details?.causes?.find(({ reason }) => typeof reason === "string")?.reason ?? said.reason,
    retryAfterMs: typeof seconds === "number" && seconds > 0 ? seconds * 1_000 : undefined,
    ...(row.hint === undefined ? {} : { hint: row.hint }),
  });
}

interface Status {
  readonly message?: string;
  readonly reason?: string;
  readonly details?: {
    readonly retryAfterSeconds?: unknown;
    readonly causes?: ReadonlyArray<{ readonly reason?: string }>;
  };
}

/** A `Status` object of Kubernetes, where the text is one. */
function statusOf(text: string): Status {
  try {
    const read = JSON.parse(text);
    return typeof read === "object" && read !== null && typeof read.message === "string" ? read : {};
  } catch {
    return {}; // A proxy in between answers in HTML; its text is shown as it is.
  }
}
