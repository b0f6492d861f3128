import type { ClusterView, ListenerView } from "../proxy.ts";
import type { EndpointView } from "../upstream/cluster.ts";

/** What one worker shows, and its number. */
export interface WorkerListeners {
  readonly worker: number;
  readonly listeners: readonly ListenerView[];
}

/**
 * The listeners of all workers as those of one proxy. One that some worker does not listen on has no address yet, or that
 * worker's error; connections are summed.
 */
export function mergeListeners(
  wanted: Iterable<{ readonly name: string; readonly bind: boolean }>,
  workers: readonly WorkerListeners[],
): readonly ListenerView[] {
  const byWorker = workers.map(({ worker, listeners }) => ({
    worker,
    byName: new Map(listeners.map((listener) => [listener.name, listener])),
  }));
  return [...wanted].map(({ name, bind }) => {
    const views = byWorker.map(({ worker, byName }) => ({ worker, view: byName.get(name) }));
    const first = views[0]?.view;
    const missing = views.length === 0 || views.some(({ view }) => !view || (bind && view.addresses.length === 0));
    const failed = views.find(({ view }) => view?.error !== undefined);
    return {
      name,
      addresses: missing ? [] : (first?.addresses ?? []),
      bound: bind,
      error: failed && `worker ${failed.worker}: ${failed.view!.error}`,
      chains: (first?.chains ?? []).map((chain, position) => ({
        name: chain.name,
        open: views.reduce((sum, { view }) => sum + (view?.chains[position]?.open ?? 0), 0),
      })),
    };
  });
}

/** The clusters of all workers as those of one proxy: what they count is summed, the worst health of each endpoint shown. */
export function mergeClusters(workers: ReadonlyArray<readonly ClusterView[]>): readonly ClusterView[] {
  const merged = new Map<string, ClusterView>();
  for (const clusters of workers)
    for (const cluster of clusters) {
      const known = merged.get(cluster.name);
      merged.set(cluster.name, known ? mergeCluster(known, cluster) : cluster);
    }
  return [...merged.values()];
}

function mergeCluster(a: ClusterView, b: ClusterView): ClusterView {
  const others = new Map(b.endpoints.map((endpoint) => [endpoint.address, endpoint]));
  const endpoints = a.endpoints.map((endpoint) => {
    const other = others.get(endpoint.address);
    others.delete(endpoint.address);
    return other ? mergeEndpoint(endpoint, other) : endpoint;
  });
  return { ...a, ...b, connections: a.connections + b.connections, endpoints: [...endpoints, ...others.values()] };
}

function mergeEndpoint(a: EndpointView, b: EndpointView): EndpointView {
  return {
    ...a,
    health: a.health === "healthy" ? b.health : a.health,
    active: a.active + b.active,
    success: a.success + b.success,
    error: a.error + b.error,
    connectFailure: a.connectFailure + b.connectFailure,
  };
}
