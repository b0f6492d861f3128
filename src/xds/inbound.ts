import { Cluster_DiscoveryType, ClusterSchema } from "../proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import type { Versioned } from "../proto/index.ts";
import { clusterName, isHttp, isHttp2, type Origin } from "../values/index.ts";
import { accessLog } from "./access-log.ts";
import { versioned } from "./encode.ts";
import { fixedNames } from "./fixed.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import type { InboundPort } from "./inbound-ports.ts";
import { listenerFilters, loopGuard, plainHttp, ports } from "./listeners.ts";
import { httpProtocols } from "./protocol-options.ts";
import { meshHttpAlpn, meshServerTls, meshTcpAlpn } from "./tls.ts";
import { type Fields, milliseconds, socketAddress } from "./typed.ts";

/** Inbound ports wait this long to learn what is spoken; a server that speaks first answers late by so much at most. */
const inboundPatienceMs = 1_000;

/** The cluster that leads to the workload's own port. */
export function inboundCluster(port: InboundPort): Versioned {
  const name = clusterName({ direction: "inbound", port: port.app, subset: "", host: "" });
  return versioned(ClusterSchema, {
    name,
    origins: port.service?.origins ?? [],
    message: {
      name,
      clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
      connectTimeout: milliseconds(10_000),
      loadAssignment: {
        clusterName: name,
        endpoints: [
          {
            lbEndpoints: [
              { hostIdentifier: { case: "endpoint", value: { address: socketAddress("127.0.0.1", port.app) } } },
            ],
          },
        ],
      },
      circuitBreakers: {
        thresholds: [
          {
            maxConnections: 4_294_967_295,
            maxPendingRequests: 4_294_967_295,
            maxRequests: 4_294_967_295,
            maxRetries: 4_294_967_295,
          },
        ],
      },
      typedExtensionProtocolOptions: httpProtocols({
        speak: port.protocol === "unset" ? "downstream" : isHttp2(port.protocol) ? "http2" : "http1",
      }),
    },
  });
}

type Chain = Fields<typeof FilterChainSchema>;

/**
 * The chains of one port, from what surely is of the mesh to what may be anything. Plaintext is taken beside mutual
 * TLS, so that callers without a sidecar keep working; who must not call is a matter of policy.
 */
function chainsOf(
  listener: string,
  options: {
    readonly port: Omit<InboundPort, "app">;
    readonly cluster: string;
    readonly match: NonNullable<Chain["filterChainMatch"]>;
    readonly name: string;
  },
): Chain[] {
  const { port, cluster, match, name } = options;
  const http = () =>
    httpConnection({
      listener,
      side: "inbound",
      routes: {
        kind: "inline",
        routes: {
          name: cluster,
          validateClusters: false,
          virtualHosts: [
            {
              name: `inbound|http|${port.servicePort}`,
              domains: ["*"],
              routes: [
                {
                  name: "default",
                  match: { pathSpecifier: { case: "prefix", value: "/" } },
                  action: {
                    case: "route",
                    value: { clusterSpecifier: { case: "cluster", value: cluster }, timeout: milliseconds(0) },
                  },
                },
              ],
            },
          ],
        },
      },
    });
  const tcp = () => tcpProxy({ listener, statPrefix: cluster, to: cluster, attempts: 1 });
  // Matching never turns back: where one chain names TLS, all that is TLS is looked for among those that do.
  const encrypted = port.protocol === "unset" ? { transportProtocol: "tls" } : {};
  const mesh = (alpn: readonly string[], of: () => ReturnType<typeof http>, suffix: string): Chain => ({
    name: `${name}-${suffix}`,
    filterChainMatch: { ...match, ...encrypted, applicationProtocols: [...alpn] },
    transportSocket: meshServerTls(),
    filters: [of()],
  });
  if (isHttp(port.protocol))
    return [
      mesh([...meshHttpAlpn, "istio"], http, "mtls"),
      { name: `${name}-plain`, filterChainMatch: match, filters: [http()] },
    ];
  if (port.protocol !== "unset")
    return [mesh(meshTcpAlpn, tcp, "mtls"), { name: `${name}-plain`, filterChainMatch: match, filters: [tcp()] }];
  return [
    mesh(meshHttpAlpn, http, "mtls-http"),
    mesh(meshTcpAlpn, tcp, "mtls-tcp"),
    // TLS of the application's own, which may offer http/1.1 too: passed on unopened.
    { name: `${name}-tls`, filterChainMatch: { ...match, ...encrypted }, filters: [tcp()] },
    {
      name: `${name}-plain-http`,
      filterChainMatch: { ...match, applicationProtocols: [...plainHttp] },
      filters: [http()],
    },
    { name: `${name}-plain-tcp`, filterChainMatch: match, filters: [tcp()] },
  ];
}

const listening = {
  listenerFilters: [listenerFilters.originalDestination, listenerFilters.tls, listenerFilters.http],
  listenerFiltersTimeout: milliseconds(inboundPatienceMs),
  continueOnListenerFiltersTimeout: true,
};

/** 15006: everything that was captured on its way in, by the port it was meant for. */
export function virtualInbound(inbound: Iterable<InboundPort>): Versioned {
  const name = "virtualInbound";
  const chains: Chain[] = [loopGuard(name, ports.inbound)];
  const origins = new Set<Origin>();
  for (const port of inbound) {
    for (const origin of port.service?.origins ?? []) origins.add(origin);
    const cluster = clusterName({ direction: "inbound", port: port.app, subset: "", host: "" });
    chains.push(
      ...chainsOf(name, { port, cluster, match: { destinationPort: port.app }, name: `inbound-${port.app}` }),
    );
  }
  const undeclared = { protocol: "unset", servicePort: 0, service: undefined } as const;
  const rest = chainsOf(name, {
    port: undeclared,
    cluster: fixedNames.inboundPassthrough,
    match: {},
    name: "inbound-undeclared",
  });
  const last = rest.pop()!;
  const { filterChainMatch: _everything, ...catchAll } = last;
  return versioned(ListenerSchema, {
    name,
    origins: [...origins],
    message: {
      name,
      address: socketAddress("0.0.0.0", ports.inbound),
      trafficDirection: TrafficDirection.INBOUND,
      accessLog: [accessLog(name, "connections")],
      ...listening,
      filterChains: [...chains, ...rest],
      defaultFilterChain: catchAll,
    },
  });
}

/** Without capture every port of the workload has a listener of its own on loopback. */
export function boundInbound(listen: number, port: InboundPort): Versioned {
  const name = `127.0.0.1_${listen}`;
  const cluster = clusterName({ direction: "inbound", port: port.app, subset: "", host: "" });
  const chains = chainsOf(name, { port, cluster, match: {}, name: `inbound-${listen}` });
  const { filterChainMatch: _everything, ...catchAll } = chains.pop()!;
  return versioned(ListenerSchema, {
    name,
    origins: port.service?.origins ?? [],
    message: {
      name,
      address: socketAddress("127.0.0.1", listen),
      trafficDirection: TrafficDirection.INBOUND,
      accessLog: [accessLog(name, "connections")],
      ...listening,
      listenerFilters: [listenerFilters.tls, listenerFilters.http],
      filterChains: chains,
      defaultFilterChain: catchAll,
    },
  });
}
