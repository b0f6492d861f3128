import type { Counter, Gauge, Histogram, Metrics } from "../../base/index.ts";
import type { ResponseFlag } from "../l4/access-log.ts";

/** Counters of the HTTP proxy. Counted in plain numbers; handed to the metrics when somebody reads them. */
export class HttpMetrics {
  readonly #requests: Counter<"code_class" | "flag">;
  readonly #retries: Counter<never>;
  readonly #connections: Counter<"protocol">;
  readonly #active: Gauge<never>;
  readonly #duration: Histogram<never>;
  readonly #counts = new Map<string, { readonly codeClass: string; readonly flag: string; count: number }>();
  readonly #quick = new Int32Array(6);
  #durations: number[] = [];
  active = 0;

  constructor(metrics: Metrics) {
    this.#requests = metrics.counter(
      "isthmus_http_requests_total",
      "HTTP requests answered, by class of status and response flag",
      ["code_class", "flag"],
    );
    this.#retries = metrics.counter("isthmus_http_retries_total", "HTTP requests tried again");
    this.#connections = metrics.counter("isthmus_http_connections_total", "HTTP connections accepted", ["protocol"]);
    this.#active = metrics.gauge("isthmus_http_requests_active", "HTTP requests running now");
    this.#duration = metrics.histogram(
      "isthmus_http_request_duration_seconds",
      "From the first byte of a request to the last of its answer",
      [],
      [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    );
    metrics.beforeText(() => this.#flush());
  }

  connection(protocol: "http1" | "http2"): void {
    this.#connections.inc({ protocol });
  }

  retry(): void {
    this.#retries.inc();
  }

  begin(): void {
    this.active++;
  }

  end(status: number | undefined, flags: readonly ResponseFlag[], durationMs: number): void {
    this.active--;
    if (this.#durations.push(durationMs) >= 4096) this.#flushDurations();
    const index = status === undefined ? 0 : Math.floor(status / 100);
    if (flags.length === 0 && index >= 1 && index <= 5) {
      this.#quick[index]!++;
      return;
    }
    const codeClass = index >= 1 && index <= 5 ? `${index}xx` : "none";
    const flag = flags[0] ?? "-";
    const key = `${codeClass} ${flag}`;
    const found = this.#counts.get(key);
    if (found) found.count++;
    else this.#counts.set(key, { codeClass, flag, count: 1 });
  }

  #flushDurations(): void {
    for (const ms of this.#durations) this.#duration.observe(ms / 1000);
    this.#durations = [];
  }

  #flush(): void {
    this.#active.set(this.active);
    this.#flushDurations();
    for (let index = 1; index <= 5; index++) {
      const count = this.#quick[index]!;
      if (count > 0) this.#requests.inc({ code_class: `${index}xx`, flag: "-" }, count);
    }
    this.#quick.fill(0);
    for (const { codeClass, flag, count } of this.#counts.values())
      this.#requests.inc({ code_class: codeClass, flag }, count);
    this.#counts.clear();
  }
}
