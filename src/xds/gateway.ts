import { type GatewayServer, type Mesh, serversOf } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { isHttp } from "../values/index.ts";
import { accessLog } from "./access-log.ts";
import type { Client } from "./client.ts";
import { listed, versioned } from "./encode.ts";
import { blackHole, fixedNames } from "./fixed.ts";
import { serverChain, terminates } from "./gateway-chains.ts";
import { gatewayRoutes } from "./gateway-routes.ts";
import { addClusters, type PortWork } from "./gateway-work.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { gatewayPort } from "./inbound-ports.ts";
import { listenerFilters } from "./listeners.ts";
import type { ProxyNode } from "./node.ts";
import { noParts, type Parts, put } from "./parts.ts";
import { exposureChain, exposuresOf } from "./passthrough-gateway.ts";
import { type Fields, socketAddress } from "./typed.ts";

type Chain = Fields<typeof FilterChainSchema>;

/** What a gateway runs: what its Gateways open, with clusters for that and for nothing else. */
export function gatewayParts(mesh: Mesh, node: ProxyNode, client: Client): Parts {
  const parts = noParts();
  put(parts.cluster, blackHole);
  const byPort = new Map<number, GatewayServer[]>();
  for (const one of serversOf(mesh.gateways, client.labels)) {
    const number = one.server.port.number;
    byPort.set(number, [...(byPort.get(number) ?? []), one]);
  }
  for (const [number, servers] of byPort) {
    const bind = bindOf(mesh, { node, client, number });
    if (bind) makePort({ mesh, client, parts, number, servers, bind });
  }
  return parts;
}

/** A gateway that shares its machine's address says by APP_PORTS which of the machine's ports stands for which of its own. */
function bindOf(
  mesh: Mesh,
  { node, client, number }: { readonly node: ProxyNode; readonly client: Client; readonly number: number },
): { readonly address: string; readonly port: number } | undefined {
  const port = gatewayPort(mesh, { node, labels: client.labels, number });
  if (node.interception.mode === "redirect") return { address: "0.0.0.0", port };
  const mapped = Object.entries(node.interception.appPorts).find(([, app]) => app === port);
  return mapped ? { address: "127.0.0.1", port: Number(mapped[0]) } : undefined;
}

function makePort(options: {
  readonly mesh: Mesh;
  readonly client: Client;
  readonly parts: Parts;
  readonly number: number;
  readonly servers: readonly GatewayServer[];
  readonly bind: { readonly address: string; readonly port: number };
}): void {
  const { mesh, client, parts, number, servers, bind } = options;
  const listener = `0.0.0.0_${number}`;
  const work: PortWork = { mesh, client, parts, listener, port: number, clusters: new Set(), origins: new Set() };
  const exposures = exposuresOf(mesh, servers, client);
  for (const { made } of exposures) {
    put(parts.cluster, made.cluster);
    put(parts.endpoints, made.endpoints);
  }
  const exposed = exposures.map((one) => exposureChain(listener, one));
  const chains: Chain[] = [];
  const plain = servers.filter(({ server }) => isHttp(server.port.protocol) && terminates(server.tls?.mode) === "no");
  let last: Chain | undefined;
  if (plain.length > 0) {
    const name = `http.${number}`;
    put(parts.route, gatewayRoutes(work, { name, servers: plain }));
    last = { name, filters: [httpConnection({ listener, side: "edge", routes: { kind: "named", name } })] };
  }
  const taken = new Set<string>(exposures.flatMap((one) => one.serverNames));
  for (const one of servers) {
    const made = serverChain(work, one, taken);
    if (made === undefined) continue;
    if (made.filterChainMatch === undefined) last ??= made;
    else chains.push(made);
  }
  // A port with nothing behind it still takes connections, to say in a line why it closes them.
  last ??=
    chains.length + exposed.length === 0
      ? {
          name: "nothing-exposed",
          filters: [tcpProxy({ listener, statPrefix: fixedNames.blackHole, to: fixedNames.blackHole })],
        }
      : undefined;
  addClusters(work);
  const rest = versioned(ListenerSchema, {
    name: listener,
    origins: [...new Set([...servers.map((one) => one.origin), ...work.origins])],
    message: {
      name: listener,
      address: socketAddress(bind.address, bind.port),
      trafficDirection: TrafficDirection.OUTBOUND,
      accessLog: [accessLog(listener, "connections")],
      ...(chains.length + exposed.length > 0 ? { listenerFilters: [listenerFilters.tls] } : {}),
      filterChains: chains,
      ...(last ? { defaultFilterChain: last } : {}),
    },
  });
  put(parts.listener, listed(listener, [...exposed, rest]));
}
