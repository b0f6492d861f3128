import { cached, type Mesh, ruleFor, type Service } from "../model/index.ts";
import type { Versioned } from "../proto/index.ts";
import { type Hostname, SortedMap } from "../values/index.ts";
import { type Client, visibleServices } from "./client.ts";
import { clusterNamesOf, clustersOf } from "./clusters.ts";
import { type NameTables, nameTables } from "./names.ts";
import { type ListenerStage, nextListeners, noListeners } from "./outbound-listeners.ts";
import { nextRoutes, noRoutes, type RouteStage } from "./routes.ts";
import { type Seen, touchedHosts } from "./touched.ts";

/** What sidecars that are alike run for the calls of their workloads, and what it is made from. */
export interface Outbound extends Seen {
  readonly client: Client;
  readonly clusters: SortedMap<string, Versioned>;
  readonly endpoints: SortedMap<string, Versioned>;
  readonly listeners: ListenerStage;
  readonly routes: RouteStage;
  readonly names: NameTables;
}

const outboundOf = new WeakMap<Mesh, Map<string, Outbound>>();

/**
 * The outbound half, made once for all clients that are alike. With that of an earlier mesh at hand only the hosts of
 * which something changed are looked at; without it every host is one.
 */
export function outboundFor(mesh: Mesh, client: Client, earlier: Outbound | undefined): Outbound {
  const byClient = cached(outboundOf, mesh, () => new Map<string, Outbound>());
  return cached(byClient, client.key, () => {
    const before = earlier?.client.key === client.key && earlier.mesh.settings === mesh.settings ? earlier : undefined;
    const services = visibleServices(mesh, client.namespace, before);
    const now: Seen = { mesh, services };
    const touched = before ? touchedHosts(before, now, client.namespace) : new Set(services.keys());
    const parts = { before: before ?? nothingSeen, now, touched, client };
    return {
      ...now,
      client,
      ...nextClusters(before, { now, touched, client }),
      listeners: nextListeners(before?.listeners ?? noListeners, parts),
      routes: nextRoutes(before?.routes ?? noRoutes, parts),
      names: nameTables(now, before),
    };
  });
}

const nothingSeen = { services: SortedMap.empty<Hostname, Service>() };

function nextClusters(
  before: Outbound | undefined,
  { now, touched, client }: { readonly now: Seen; readonly touched: ReadonlySet<Hostname>; readonly client: Client },
): Pick<Outbound, "clusters" | "endpoints"> {
  const clusters = new Map<string, Versioned | undefined>();
  const endpoints = new Map<string, Versioned | undefined>();
  const ruleOf = ({ rules, settings }: Mesh, service: Service) =>
    ruleFor(rules, service, { namespace: client.namespace, systemNamespace: settings.systemNamespace });
  for (const host of touched) {
    const old = before?.services.get(host);
    for (const name of old ? clusterNamesOf(old, ruleOf(before!.mesh, old)) : []) {
      clusters.set(name, undefined);
      endpoints.set(name, undefined);
    }
    const service = now.services.get(host);
    if (!service) continue;
    const { settings } = now.mesh;
    for (const made of clustersOf(service, {
      rule: ruleOf(now.mesh, service),
      client,
      settings,
      form: "own-traffic",
    })) {
      clusters.set(made.cluster.name, made.cluster);
      if (made.endpoints) endpoints.set(made.endpoints.name, made.endpoints);
    }
  }
  return {
    clusters: (before?.clusters ?? SortedMap.empty<string, Versioned>()).with(clusters),
    endpoints: (before?.endpoints ?? SortedMap.empty<string, Versioned>()).with(endpoints),
  };
}
