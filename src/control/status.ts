import type { Receipts } from "../ads/index.ts";
import { explain, type Failure } from "../base/index.ts";
import type { Finding } from "../model/index.ts";
import type { KubernetesSource, Problem } from "../sources/index.ts";
import { formatOrigin, type Origin } from "../values/index.ts";

/** Something wrong, at its object: what to show beside a resource, whoever found it. */
export interface StatusLine {
  readonly severity: "error" | "warning";
  readonly code: string;
  /** Where: `file:line:column`, or the object. */
  readonly where: string;
  readonly message: string;
  readonly origin?: Origin;
}

/** All that is wrong now: files that do not read, objects that do not fit together, configuration that a proxy refused. */
export function problemsOf(parts: {
  readonly problems: readonly Problem[];
  readonly behind?: ReturnType<KubernetesSource["behind"]>;
  readonly findings: readonly Finding[];
  readonly receipts: Receipts;
  /** Why the CA files that lie there now are not in force. */
  readonly cacerts?: Failure | undefined;
  /** What could not be written into the cluster. */
  readonly cluster?: readonly StatusLine[];
}): readonly StatusLine[] {
  const read = parts.problems.map(
    ({ file, line, column, path, message, code, severity }): StatusLine => ({
      severity,
      code,
      where: `${file ?? "input"}:${line}:${column}`,
      message: path ? `${path}: ${message}` : message,
    }),
  );
  const found = parts.findings.map(
    ({ severity, code, origin, message, hint }): StatusLine => ({
      severity,
      code,
      where: formatOrigin(origin),
      message: hint ? `${message} [${hint}]` : message,
      origin,
    }),
  );
  const late = (parts.behind ?? []).map(
    ({ kind, namespace, since, failure }): StatusLine => ({
      severity: "warning",
      code: failure.code,
      where: namespace === undefined ? kind : `${kind} of namespace ${namespace}`,
      message: `cannot be read since ${new Date(since).toISOString()}, what was read before stays in force: ${failure.message}`,
    }),
  );
  return [
    ...authorityLines(parts.cacerts),
    ...read,
    ...late,
    ...found,
    ...refusals(parts.receipts),
    ...(parts.cluster ?? []),
  ];
}

/** Files that were mounted or copied are whoever's who made them; the last good ones go on. */
function authorityLines(failure: Failure | undefined): readonly StatusLine[] {
  if (!failure) return [];
  const message = `the CA files that lie there now are not used, the last good ones stay in force: ${explain(failure)}`;
  return [{ severity: "error", code: failure.code, where: "cacerts", message }];
}

/** What proxies would not take, beside the objects that it was made from; said once however many proxies refuse it. */
function refusals(receipts: Receipts): readonly StatusLine[] {
  const lines = new Map<string, StatusLine>();
  for (const receipt of receipts.all()) {
    for (const refused of receipt.refused.values()) {
      const origins: readonly (Origin | undefined)[] = refused.origins.length > 0 ? refused.origins : [undefined];
      for (const origin of origins) {
        const where = origin ? formatOrigin(origin) : receipt.proxy;
        const message = `proxy "${receipt.proxy}" refuses "${refused.name}": ${refused.reason}`;
        const key = `${where} ${refused.name} ${refused.reason}`;
        if (!lines.has(key)) {
          lines.set(key, { severity: "error", code: "xds/refused", where, message, ...(origin ? { origin } : {}) });
        }
      }
    }
  }
  return [...lines.values()];
}
