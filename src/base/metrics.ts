import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** What a counter or gauge may be labelled with: names from unions, never text from an input. */
type LabelNames = readonly string[];

/** What one process counted until now, as plain data that can be sent to another process. */
export type MetricsSnapshot = ReadonlyArray<{
  readonly name: string;
  readonly type: string;
  readonly values: readonly unknown[];
}>;

/** The metrics of one process (or of one part of it, in a test). The only home of prom-client. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #beforeText = new Set<() => void>();

  /** Also counts what the runtime knows of itself: CPU, memory, event loop, descriptors. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry });
  }

  counter<const L extends LabelNames>(
    name: string,
    help: string,
    labelNames: L = [] as unknown as L,
  ): Counter<L[number]> {
    const known = this.#registry.getSingleMetric(name);
    if (known) return known as Counter<L[number]>;
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  gauge<const L extends LabelNames>(name: string, help: string, labelNames: L = [] as unknown as L): Gauge<L[number]> {
    const known = this.#registry.getSingleMetric(name);
    if (known) return known as Gauge<L[number]>;
    return new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  histogram<const L extends LabelNames>(
    name: string,
    help: string,
    labelNames: L,
    buckets: readonly number[],
  ): Histogram<L[number]> {
    const known = this.#registry.getSingleMetric(name);
    if (known) return known as Histogram<L[number]>;
    return new Histogram({
      name,
      help,
      labelNames: [...labelNames],
      buckets: [...buckets],
      registers: [this.#registry],
    });
  }

  /** Calls `run` before each reading: for parts that count in plain numbers while they are busy. Returns how to stop. */
  beforeText(run: () => void): () => void {
    this.#beforeText.add(run);
    return () => {
      this.#beforeText.delete(run);
    };
  }

  /** The Prometheus text exposition format, version 0.0.4; with what other processes counted added to it. */
  async text(others: readonly MetricsSnapshot[] = []): Promise<string> {
    if (others.length > 0) return sum([await this.snapshot(), ...others]).metrics();
    for (const run of this.#beforeText) run();
    return this.#registry.metrics();
  }

  async snapshot(): Promise<MetricsSnapshot> {
    for (const run of this.#beforeText) run();
    return (await this.#registry.getMetricsAsJSON()) as unknown as MetricsSnapshot;
  }
}

/** What two processes counted that are no more: a sum over processes must not fall when one ends. Gauges end with them. */
export async function addCounts(a: MetricsSnapshot, b: MetricsSnapshot): Promise<MetricsSnapshot> {
  const counts = [a, b].map((all) => all.filter(({ type }) => type === "counter" || type === "histogram"));
  return (await sum(counts).getMetricsAsJSON()) as unknown as MetricsSnapshot;
}

/** Each metric says how it is put together: most are summed, some are averages or the first one's. */
function sum(snapshots: readonly MetricsSnapshot[]): Registry {
  return AggregatorRegistry.aggregate<"text/plain; version=0.0.4; charset=utf-8">([...snapshots]) as Registry;
}

export type { Counter, Gauge, Histogram };
