import { type Clock, explain, type Scope } from "../../base/index.ts";
import type { WorkloadCerts } from "../../ca/index.ts";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import type { ConfigStore } from "../config/store.ts";
import type { DataPath } from "./data-path.ts";

/**
 * Why callers should not come; undefined when they may. Before the first time that it is ready, every listener must be up.
 * After that one that cannot be bound is a matter of the log and the metrics: it is no reason to take the others' callers
 * away, as is a certificate that has ended, with which no peer would talk.
 */
export function readiness(parts: {
  readonly clock: Clock;
  readonly scope: Scope;
  readonly certificates: WorkloadCerts;
  readonly store: ConfigStore;
  readonly proxy: Pick<DataPath, "listeners" | "problem">;
  readonly told: () => ReadonlySet<TypeUrl>;
  /** Why the control plane does not answer, when it does not. */
  readonly discoveryFailure: () => unknown;
  readonly needsNames: boolean;
}): () => string | undefined {
  const { clock, scope, certificates, store, proxy, told, discoveryFailure, needsNames } = parts;
  let wasUp = false;

  const whyNot = () => {
    if (scope.closed) return "stopping";
    const { current, problem } = certificates;
    const certificate = current.value;
    if (!certificate) return because("no certificate yet", problem.value);
    if (clock.now() >= certificate.notAfter)
      return because(`the certificate ended at ${new Date(certificate.notAfter).toISOString()}`, problem.value);
    if (!told().has(typeUrls.listener)) return because("no configuration yet", discoveryFailure());
    if (needsNames && !told().has(typeUrls.names)) return because("no names yet", discoveryFailure());
    return proxy.problem() ?? (wasUp ? undefined : listenerDown());
  };

  const listenerDown = () => {
    const waits = store.dump().find(({ type, state }) => type === typeUrls.listener && state === "warming");
    if (waits) return `listener "${waits.name}" waits for its routes`;
    for (const { name, bound, addresses, error } of proxy.listeners()) {
      if (error !== undefined) return `listener "${name}": ${error}`;
      if (bound && addresses.length === 0) return `listener "${name}" is not bound yet`;
    }
    return undefined;
  };

  return () => {
    const why = whyNot();
    if (why === undefined) wasUp = true;
    return why;
  };
}

function because(what: string, failure: unknown): string {
  return failure === undefined ? what : `${what}: ${explain(failure)}`;
}
