import { cached, type GatewayServer, isGlobal, type Mesh, ruleFor, type Service } from "../model/index.ts";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { covers, type Hostname, type Origin, outbound, parseSniName, sniName } from "../values/index.ts";
import type { Client } from "./client.ts";
import { clustersOf, type MadeCluster } from "./clusters.ts";
import { tcpProxy } from "./http-connection.ts";
import type { Fields } from "./typed.ts";

/** One thing that a gateway passes on unopened: exact server names, and the cluster behind them. */
export interface Exposure {
  readonly serverNames: readonly string[];
  readonly made: MadeCluster;
}

/** Namespaces whose services no gateway ever exposes, whatever a Gateway says. */
function neverExposed(mesh: Mesh, service: Service): boolean {
  return (
    service.namespace === "kube-system" ||
    service.namespace === mesh.settings.systemNamespace ||
    (service.namespace === "default" && service.name === "kubernetes")
  );
}

const autoPassthrough = ({ server }: GatewayServer) => server.tls?.mode === "AUTO_PASSTHROUGH";

/** What a port's AUTO_PASSTHROUGH servers expose to the outside, in order of name. No name stands twice. */
export function exposuresOf(mesh: Mesh, servers: readonly GatewayServer[], client: Client): readonly Exposure[] {
  const open = servers.filter(autoPassthrough);
  if (open.length === 0) return [];
  const exposures: Exposure[] = [];
  const taken = new Set<string>();
  for (const service of mesh.services.values()) {
    const names = exposedNames(mesh, service, client);
    if (!names || !open.some((one) => allows(one, service, names))) continue;
    const rule = passedOnRule(mesh, service, client);
    for (const made of clustersOf(service, { rule, client, settings: mesh.settings, form: "passed-on" })) {
      const traffic = parseSniName(made.cluster.name)!;
      const serverNames = names
        .map((name) => sniName(outbound(name, traffic.port, traffic.subset)))
        .filter((name) => !taken.has(name));
      if (serverNames.length === 0) continue;
      for (const name of serverNames) taken.add(name);
      exposures.push({ serverNames: serverNames.sort(), made });
    }
  }
  return exposures;
}

/**
 * The names under which a service may be asked for from outside. An ingress gateway passes on to services of its own
 * cluster, under their own and their global name; one that asked for a network's view passes on to other clusters.
 */
function exposedNames(mesh: Mesh, service: Service, client: Client): readonly Hostname[] | undefined {
  if (client.requestedView) {
    const leaves = isGlobal(service.hostname) && service.location === "internal";
    return leaves && service.endpoints.some((one) => client.networks.has(one.network)) ? [service.hostname] : undefined;
  }
  if (service.registry !== "kubernetes" || service.alias !== undefined || neverExposed(mesh, service)) return undefined;
  return [service.hostname, `${service.name}.${service.namespace}.global` as Hostname];
}

function allows({ server, gateway }: GatewayServer, service: Service, names: readonly Hostname[]): boolean {
  return server.hosts.some(({ namespace, host }) => {
    if (
      namespace === "." ? service.namespace !== gateway.namespace : namespace !== "*" && service.namespace !== namespace
    )
      return false;
    return host === "*" || names.some((name) => covers(host as Hostname, name));
  });
}

/** Subsets may be defined for the service's own name or for its global one; both are the same service here. */
function passedOnRule(mesh: Mesh, service: Service, client: Client) {
  const from = { namespace: client.namespace, systemNamespace: mesh.settings.systemNamespace };
  const own = ruleFor(mesh.rules, service, from);
  if (service.registry !== "kubernetes") return own;
  const hostname = `${service.name}.${service.namespace}.global` as Hostname;
  const global = ruleFor(mesh.rules, { ...service, hostname }, from);
  if (!global || global.subsets.length === 0) return own;
  if (!own) return global;
  return mergedWith(own, global);
}

type Rule = NonNullable<ReturnType<typeof ruleFor>>;
const unions = new WeakMap<Rule, WeakMap<Rule, Rule>>();

/** The subsets of both; of one name the own one counts. */
function mergedWith(own: Rule, global: Rule): Rule {
  const byOther = cached(unions, own, () => new WeakMap<Rule, Rule>());
  return cached(byOther, global, (): Rule => {
    const names = new Set(own.subsets.map((one) => one.name));
    return Object.freeze({
      ...own,
      subsets: Object.freeze([...own.subsets, ...global.subsets.filter((one) => !names.has(one.name))]),
      origins: Object.freeze([...own.origins, ...global.origins]),
    });
  });
}

/** The filter chain of one exposure: chosen by exact name, opening nothing, to a cluster that no caller can choose. */
export function exposureChain(listener: string, { serverNames, made }: Exposure): Fields<typeof FilterChainSchema> {
  const name = made.cluster.name;
  return {
    name,
    filterChainMatch: { serverNames: [...serverNames] },
    filters: [tcpProxy({ listener, statPrefix: name, to: name, logAtStart: true })],
  };
}

export function originsOf(servers: readonly GatewayServer[], exposures: readonly Exposure[]): readonly Origin[] {
  return [...new Set([...servers.map((one) => one.origin), ...exposures.flatMap((one) => one.made.cluster.origins)])];
}
