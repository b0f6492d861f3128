import type { Metrics } from "../../base/index.ts";
import type { ClusterView, EmbeddedProxy, ListenerView } from "../proxy.ts";

/** What the agent wants to know of what serves beside it, be it in this process or in several others. */
export interface DataPath {
  /** As far as it is known at once. */
  listeners(): readonly ListenerView[];
  /** Why nothing at all is served; undefined while it is. */
  problem(): string | undefined;
  views(): Promise<{ readonly listeners: readonly ListenerView[]; readonly clusters: readonly ClusterView[] }>;
  /** All that was counted, this process's metrics among it. */
  metricsText(): Promise<string>;
}

/** The data path in this process. */
export function ownDataPath(proxy: EmbeddedProxy, metrics: Metrics): DataPath {
  return {
    listeners: proxy.listeners,
    problem: () => undefined,
    views: () => Promise.resolve({ listeners: proxy.listeners(), clusters: proxy.clusters() }),
    metricsText: () => metrics.text(),
  };
}
