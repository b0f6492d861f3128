import { credentialsOf, type ForwardPolicy, type GatewayPort, type Mesh, portsOf, serversOf } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { accessLog } from "./access-log.ts";
import type { Client } from "./client.ts";
import { listed, type Piece, versioned } from "./encode.ts";
import { blackHole, fixedNames } from "./fixed.ts";
import { type Chain, serverChains } from "./gateway-chains.ts";
import { gatewayRoutes } from "./gateway-routes.ts";
import { addClusters, type PortWork } from "./gateway-work.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { gatewayPort } from "./inbound-ports.ts";
import { listenerFilters, proxyProtocol } from "./listeners.ts";
import type { ProxyNode } from "./node.ts";
import { noParts, type Parts, put } from "./parts.ts";
import { exposureChain, exposuresOf } from "./passthrough-gateway.ts";
import { secretResources } from "./secrets.ts";
import { socketAddress } from "./typed.ts";

/** What a gateway runs: what its Gateways open, with clusters and keys for that and for nothing else. */
export function gatewayParts(mesh: Mesh, node: ProxyNode, client: Client): Parts {
  const parts = noParts();
  const credentials = new Set<string>();
  const forward = mesh.workloads.get(`${node.namespace}/${node.name}`)?.forwardPolicy;
  put(parts.cluster, blackHole);
  for (const port of portsOf(serversOf(mesh.gateways, client.labels))) {
    const bind = bindOf(mesh, { node, client, port });
    if (!bind) continue;
    makePort({ mesh, client, parts, port, bind, credentials, forward });
    for (const { server } of port.servers) for (const name of credentialsOf(server)) credentials.add(name);
  }
  return { ...parts, secret: secretResources(mesh, node, credentials) };
}

/** A gateway that shares its machine's address says by APP_PORTS which of the machine's ports stands for which of its own. */
function bindOf(
  mesh: Mesh,
  { node, client, port: wanted }: { readonly node: ProxyNode; readonly client: Client; readonly port: GatewayPort },
): { readonly address: string; readonly port: number } | undefined {
  const port = gatewayPort(mesh, { node, labels: client.labels, number: wanted.number });
  if (node.interception.mode === "redirect") return { address: wanted.bind ?? "0.0.0.0", port };
  const mapped = Object.entries(node.interception.appPorts).find(([, app]) => app === port);
  return mapped ? { address: "127.0.0.1", port: Number(mapped[0]) } : undefined;
}

function makePort(options: {
  readonly mesh: Mesh;
  readonly client: Client;
  readonly parts: Parts;
  readonly port: GatewayPort;
  readonly bind: { readonly address: string; readonly port: number };
  /** Takes the Secrets that its clusters need. */
  readonly credentials: Set<string>;
  readonly forward: ForwardPolicy | undefined;
}): void {
  const { mesh, client, parts, port, bind, credentials, forward } = options;
  const { number, servers } = port;
  const listener = `${port.bind ?? "0.0.0.0"}_${number}`;
  const work: PortWork = {
    mesh,
    client,
    parts,
    listener,
    port: number,
    clusters: new Set(),
    credentials,
    origins: new Set(),
    forward,
  };
  const { exposed, chains, last } = port.kind === "http" ? httpPort(work, port) : sharedPort(work, port);
  addClusters(work);
  const filters = [
    // The oldest Gateway of a port says it for all of them.
    ...(servers[0]?.proxyProtocol ? [proxyProtocol(servers[0].proxyProtocol)] : []),
    ...(chains.length + exposed.length > 0 || port.kind === "tls" ? [listenerFilters.tls] : []),
  ];
  const rest = versioned(ListenerSchema, {
    name: listener,
    origins: [...new Set([...servers.map((one) => one.origin), ...work.origins])],
    message: {
      name: listener,
      address: socketAddress(bind.address, bind.port),
      trafficDirection: TrafficDirection.OUTBOUND,
      accessLog: [accessLog(listener, "connections")],
      ...(filters.length > 0 ? { listenerFilters: filters } : {}),
      filterChains: [...chains],
      ...(last ? { defaultFilterChain: last } : {}),
    },
  });
  put(parts.listener, listed(listener, [...exposed, rest]));
}

interface Chains {
  readonly exposed: readonly Piece[];
  readonly chains: readonly Chain[];
  /** For whatever no chain asks for. */
  readonly last: Chain | undefined;
}

/** Plain HTTP: one set of routes for all servers of the port. */
function httpPort(work: PortWork, { number, servers }: GatewayPort): Chains {
  const { parts, listener } = work;
  const name = `http.${number}`;
  put(parts.route, gatewayRoutes(work, { name, servers }));
  const last = {
    name,
    filters: [httpConnection({ listener, side: "edge", routes: { kind: "named", name }, forward: work.forward })],
  };
  return { exposed: [], chains: [], last };
}

/** A port on which server names, if anything, say what is meant. */
function sharedPort(work: PortWork, { servers }: GatewayPort): Chains {
  const { parts, listener, client } = work;
  const exposures = exposuresOf(work.mesh, servers, client);
  for (const { made } of exposures) {
    put(parts.cluster, made.cluster);
    put(parts.endpoints, made.endpoints);
  }
  const exposed = exposures.map((one) => exposureChain(listener, one));
  const taken = new Set<string>(exposures.flatMap((one) => one.serverNames));
  const chains: Chain[] = [];
  let last: Chain | undefined;
  for (const one of servers) {
    for (const made of serverChains(work, one, taken)) {
      if (made.filterChainMatch === undefined) last ??= made;
      else chains.push(made);
    }
  }
  // A port with nothing behind it still takes connections, to say in a line why it closes them.
  if (chains.length + exposed.length === 0) last ??= nothingExposed(listener);
  return { exposed, chains, last };
}

const nothingExposed = (listener: string): Chain => ({
  name: "nothing-exposed",
  filters: [tcpProxy({ listener, statPrefix: fixedNames.blackHole, to: fixedNames.blackHole, attempts: 1 })],
});
