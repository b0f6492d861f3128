import type { AdminRoutes, Metrics } from "../base/index.ts";

/** What a control plane still waits for, or why it is not to be asked any more. Ready when there is nothing. */
export class Readiness {
  /** Each says what is in the way now; nothing when it is not. */
  readonly #waits = new Map<string, () => readonly string[]>();
  #stopping = false;

  constructor() {
    this.waitFor("start", () => ["it has only just begun"]);
  }

  waitFor(part: string, reasons: () => readonly string[]): void {
    this.#waits.set(part, reasons);
  }

  done(part: string): void {
    this.#waits.delete(part);
  }

  /** From now on others are to be asked. What is asked here is answered all the same. */
  stop(): void {
    this.#stopping = true;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  reasons(): readonly string[] {
    if (this.#stopping) return ["it stops"];
    return [...this.#waits].flatMap(([part, reasons]) => reasons().map((reason) => `${part}: ${reason}`));
  }
}

/** For Kubernetes' probes and for Prometheus: nothing that could be of use to anybody else. */
export function healthRoutes(readiness: Readiness, metrics: Metrics): AdminRoutes {
  return {
    "GET /ready": () => {
      const reasons = readiness.reasons();
      if (reasons.length === 0) return { text: "ready\n" };
      return { status: 503, text: `not ready\n${reasons.map((reason) => `  ${reason}\n`).join("")}` };
    },
    "GET /live": () => ({ text: "live\n" }),
    "GET /metrics": async () => ({ text: await metrics.text(), contentType: "text/plain; version=0.0.4" }),
  };
}
