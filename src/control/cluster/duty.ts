import type { Clock, Failure, Logger, Scope } from "../../base/index.ts";
import type { KubeClient, Mandate } from "../../kube/index.ts";
import type { StatusLine } from "../status.ts";

/** What everything that a leader does needs. */
export interface DutyDeps {
  readonly client: KubeClient;
  readonly mandate: Mandate;
  readonly trouble: Trouble;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** What a leader could not write, or would not: shown beside all else that is wrong. */
export class Trouble {
  readonly #lines = new Map<string, StatusLine>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  lines(): readonly StatusLine[] {
    return [...this.#lines.values()];
  }

  /** Says it once in the log, for as long as it is the same. */
  set(where: string, line: Pick<StatusLine, "severity" | "code" | "message">): void {
    const before = this.#lines.get(where);
    this.#lines.set(where, { ...line, where });
    if (before?.message !== line.message) this.#log.warn({ where, code: line.code }, line.message);
  }

  clear(where: string): void {
    if (this.#lines.delete(where)) this.#log.info({ where }, "in order again");
  }

  /** After a try to write; `failure` undefined: it went well. */
  outcome(where: string, failure: Failure | undefined): void {
    if (!failure) this.clear(where);
    // Somebody else wrote meanwhile; with what they wrote it is tried again.
    else if (failure.code !== "kube/conflict")
      this.set(where, { severity: "error", code: failure.code, message: `cannot be written: ${failure.message}` });
  }

  /** All is void when the leader is not the leader any more. */
  endWith(scope: Scope): void {
    scope.defer(() => this.#lines.clear());
  }
}
