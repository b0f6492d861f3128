import { cached, type GatewayServer, isGlobal, type Mesh, ruleFor, rulesAbout, type Service } from "../model/index.ts";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { covers, type Hostname, outbound, parseSniName, sniName } from "../values/index.ts";
import type { Client } from "./client.ts";
import { clustersOf, type MadeCluster } from "./clusters.ts";
import { type Piece, versioned } from "./encode.ts";
import { tcpProxy } from "./http-connection.ts";

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
  const key = `${client.key} ${open[0]!.server.port.number}`;
  mesh.services.forEach((service) => {
    for (const exposure of remembered(mesh, service, { open, client, key })) {
      const serverNames = exposure.serverNames.filter((name) => !taken.has(name));
      if (serverNames.length === 0) continue;
      for (const name of serverNames) taken.add(name);
      exposures.push(serverNames.length === exposure.serverNames.length ? exposure : { ...exposure, serverNames });
    }
  });
  return exposures;
}

interface Remembered {
  readonly inputs: readonly unknown[];
  readonly exposures: readonly Exposure[];
}

interface Asking {
  readonly open: readonly GatewayServer[];
  readonly client: Client;
  /** Of the client and the port. */
  readonly key: string;
}

const memory = new WeakMap<Service, Map<string, Remembered>>();

/** What one service gives a port, as long as the service, the rules and the port's servers are the same. */
function remembered(mesh: Mesh, service: Service, { open, client, key }: Asking): readonly Exposure[] {
  const byClient = cached(memory, service, () => new Map<string, Remembered>());
  const known = byClient.get(key);
  const { settings, rules } = mesh;
  if (
    known?.inputs.length === open.length + 2 &&
    known.inputs[0] === settings &&
    known.inputs[1] === rules &&
    open.every((one, at) => one === known.inputs[at + 2])
  )
    return known.exposures;
  const exposures = exposuresBy(mesh, service, { open, client });
  byClient.set(key, { inputs: [settings, rules, ...open], exposures });
  return exposures;
}

function exposuresBy(mesh: Mesh, service: Service, { open, client }: Omit<Asking, "key">): readonly Exposure[] {
  const names = exposedNames(mesh, service, client);
  if (!names || !open.some((one) => allows(one, service, names))) return [];
  const rule = passedOnRule(mesh, service, client);
  return clustersOf(service, { rule, client, settings: mesh.settings, form: "passed-on" }).map((made) => {
    const traffic = parseSniName(made.cluster.name)!;
    return { serverNames: names.map((name) => sniName(outbound(name, traffic.port, traffic.subset))).sort(), made };
  });
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
  // Callers of any namespace leave here, each with the subsets of the rule that it follows.
  if (service.registry !== "kubernetes") return rulesAbout(mesh.rules, service).reduce(mergedWith, own);
  const hostname = `${service.name}.${service.namespace}.global` as Hostname;
  const global = ruleFor(mesh.rules, { ...service, hostname }, from);
  if (!global || global.subsets.length === 0) return own;
  return mergedWith(own, global);
}

type Rule = NonNullable<ReturnType<typeof ruleFor>>;
const unions = new WeakMap<Rule, WeakMap<Rule, Rule>>();

/** The subsets of both; of one name the first one's counts, and so do its policies. */
function mergedWith(own: Rule | undefined, global: Rule): Rule {
  if (own === undefined || own === global) return global;
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

const encoded = new WeakMap<MadeCluster, Map<string, Piece>>();

/**
 * The filter chain of one exposure, as a part of its listener: chosen by exact name, opening nothing, to a cluster that
 * no caller can choose. Encoded once, as thousands of them stand in one listener.
 */
export function exposureChain(listener: string, { serverNames, made }: Exposure): Piece {
  const byListener = cached(encoded, made, () => new Map<string, Piece>());
  return cached(byListener, `${listener} ${serverNames.join()}`, () => {
    const { name, origins } = made.cluster;
    return versioned(ListenerSchema, {
      name,
      origins,
      message: {
        filterChains: [
          {
            name,
            filterChainMatch: { serverNames: [...serverNames] },
            filters: [tcpProxy({ listener, statPrefix: name, to: name, logAtStart: true })],
          },
        ],
      },
    });
  });
}
