import { type Clock, explain, type Scope } from "../../../base/index.ts";
import type { WorkloadCerts } from "../../../ca/index.ts";
import { askEnvoy } from "./ask-envoy.ts";
import type { EnvoyAdmin } from "./bootstrap.ts";
import type { NamesClient } from "./names-client.ts";
import type { EnvoyProcess } from "./process.ts";

/**
 * Why callers should not come; undefined when they may: with a certificate that holds, names where the workload resolves
 * by them, an Envoy that says that it is live, and, before the first time, every listener up. (Later one that changes is
 * no reason to take the others' callers away.)
 */
export function envoyReadiness(parts: {
  readonly clock: Clock;
  readonly scope: Scope;
  readonly certificates: WorkloadCerts;
  readonly admin: EnvoyAdmin;
  /** Undefined until it was started. */
  readonly envoy: () => EnvoyProcess | undefined;
  /** Undefined until it was started; null where the workload has no resolver here. */
  readonly names: () => NamesClient | undefined | null;
}): () => Promise<string | undefined> {
  const { clock, scope, certificates, admin, envoy, names } = parts;
  let wasUp = false;

  return async () => {
    if (scope.closed) return "stopping";
    const { current, problem } = certificates;
    const certificate = current.value;
    if (!certificate) return because("no certificate yet", problem.value);
    if (clock.now() >= certificate.notAfter)
      return because(`the certificate ended at ${new Date(certificate.notAfter).toISOString()}`, problem.value);
    const client = names();
    if (client !== null && !client?.told) return because("no names yet", client?.failure);
    const running = envoy();
    if (!running) return "Envoy is not started yet";
    if (running.down !== undefined) return running.down;
    try {
      const ready = await askEnvoy(admin, "GET", "/ready");
      if (ready.status !== 200) return `Envoy is not live: ${ready.text.trim().slice(0, 100)}`;
      const why = wasUp ? undefined : listenersDown((await askEnvoy(admin, "GET", listenerStats)).text);
      if (why === undefined) wasUp = true;
      return why;
    } catch (caught) {
      return explain(caught);
    }
  };
}

const listenerStats =
  "/stats?filter=^listener_manager\\.(lds\\.update_(success|rejected)|total_listeners_warming|workers_started)$";

/** What the counters of the listeners mean. */
export function listenersDown(stats: string): string | undefined {
  const counted = new Map(stats.split("\n").map((line) => line.split(": ") as [string, string]));
  const count = (name: string) => Number(counted.get(`listener_manager.${name}`) ?? 0);
  if (count("lds.update_success") === 0)
    return count("lds.update_rejected") > 0
      ? "Envoy refused the listeners that it was told of; its log says why"
      : "no configuration yet";
  if (count("total_listeners_warming") > 0)
    return `${count("total_listeners_warming")} listeners wait for what they need`;
  return count("workers_started") === 0 ? "Envoy's workers are not started yet" : undefined;
}

function because(what: string, failure: unknown): string {
  return failure === undefined ? what : `${what}: ${explain(failure)}`;
}
