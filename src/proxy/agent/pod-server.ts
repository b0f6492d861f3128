import { type AdminAddress, type AdminReply, type AdminRoutes, type Scope, startAdmin } from "../../base/index.ts";
import type { AppProbers } from "./app-probers.ts";
import { type AppPlace, appPlaces, askApp } from "./ask-app.ts";
import type { NodeFacts } from "./node.ts";

/** Where those outside the pod ask about it: kubelet, load balancers, who collects metrics. None of it shows or changes anything else. */
export interface PodServers {
  /** Readiness, metrics, and the application's own probes. */
  readonly status?: AdminAddress;
  /** Readiness alone. */
  readonly health?: AdminAddress;
  /** What is asked of the application in kubelet's place. */
  readonly probers?: AppProbers;
}

/** Serves both. `routes` are those of the admin API, of which a few are shown here. */
export async function startPodServers(
  servers: PodServers | undefined,
  { routes, node }: { readonly routes: AdminRoutes; readonly node: NodeFacts },
  scope: Scope,
): Promise<void> {
  const { status, health, probers } = servers ?? {};
  const ready = pick(routes, ["GET /healthz/ready"]);
  if (status) {
    const places = appPlaces(node.ip, node.interception === "REDIRECT");
    const shown = pick(routes, ["GET /healthz/ready", "GET /stats/prometheus"]);
    await startAdmin({ address: status, routes: { ...shown, ...appRoutes(probers ?? new Map(), places) } }, scope);
  }
  if (health) await startAdmin({ address: health, routes: ready }, scope);
}

function appRoutes(probers: AppProbers, places: readonly AppPlace[]): AdminRoutes {
  return Object.fromEntries(
    [...probers].map(([path, prober]) => [`GET ${path}`, (): Promise<AdminReply> => askApp(prober, places)]),
  );
}

function pick(routes: AdminRoutes, names: readonly string[]): AdminRoutes {
  return Object.fromEntries(names.flatMap((name) => (routes[name] ? [[name, routes[name]]] : [])));
}
