import { createHash } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import type {
  Filter,
  FilterChain,
  FilterChainMatch,
} from "../../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import {
  FilterChainMatch_ConnectionSourceType,
  FilterChainSchema,
} from "../../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "../../proto/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpInspectorSchema } from "../../proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "../../proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { ProxyProtocolSchema } from "../../proto/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { TlsInspectorSchema } from "../../proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { HttpConnectionManagerSchema } from "../../proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import {
  type TcpProxy,
  TcpProxySchema,
} from "../../proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { isPacked } from "../../proto/index.ts";
import type { Cidr, SocketAddress } from "../../values/index.ts";
import { type AccessLogConfig, readAccessLogs } from "./access-log.ts";
import { readCidr, readSocketAddress } from "./address.ts";
import { plainMetadata } from "./endpoints.ts";
import { type HttpManager, readHttpManager } from "./http-manager.ts";
import { type Place, type Read, readAny, readBytes, readDuration } from "./reading.ts";
import type { DownstreamTls } from "./tls.ts";
import { readDownstreamTransport } from "./transport.ts";

/** What a chain asks of a connection. An empty list asks nothing. */
export interface ChainMatch {
  readonly destinationPort: number | undefined;
  readonly prefixRanges: readonly Cidr[];
  /** Lower case; `*.example.com` covers every name below it. */
  readonly serverNames: readonly string[];
  readonly transportProtocol: "tls" | "raw_buffer" | undefined;
  readonly applicationProtocols: readonly string[];
  readonly sourceType: "any" | "local" | "external";
  readonly sourceRanges: readonly Cidr[];
  readonly sourcePorts: readonly number[];
}

/** Bytes to a cluster, unopened and unread. */
export interface TcpProxyConfig {
  readonly statPrefix: string;
  /** Weights are relative; one cluster has the weight 1. */
  readonly clusters: ReadonlyArray<{ readonly name: string; readonly weight: number }>;
  readonly idleTimeoutMs: number | undefined;
  readonly maxDurationMs: number | undefined;
  readonly maxConnectAttempts: number;
  /** Connections of one caller address go to one endpoint. */
  readonly hashBySource: boolean;
  readonly accessLogs: readonly AccessLogConfig[];
  /** Whether a line is written when the connection is made, and not at its end alone. */
  readonly logAtStart: boolean;
}

/** What a connection meets at the end of its chain. */
export type Terminal =
  | { readonly kind: "http"; readonly manager: HttpManager }
  | { readonly kind: "tcp"; readonly tcp: TcpProxyConfig };

export interface ChainConfig {
  /** Its name, or its number in the listener where it has none. */
  readonly name: string;
  /** Made from all that it says: a chain of the same digest is the same chain, and its connections stay. */
  readonly digest: string;
  readonly match: ChainMatch;
  readonly tls: DownstreamTls | undefined;
  readonly terminal: Terminal;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export type ListenerFilter =
  | "tls_inspector"
  | "http_inspector"
  | "original_dst"
  | "proxy_protocol"
  | "proxy_protocol_optional";

/** What a listener runs by. */
export interface ListenerConfig {
  readonly name: string;
  readonly addresses: readonly SocketAddress[];
  /** False: it has no socket of its own and gets what another one hands over by original destination. */
  readonly bind: boolean;
  /** It hands over what was meant for another listener's address. */
  readonly handOver: boolean;
  readonly filters: readonly ListenerFilter[];
  /** How long the first bytes may take; undefined waits for ever. */
  readonly filtersTimeoutMs: number | undefined;
  /** After that time: go on as with unknown bytes, or close. */
  readonly continueOnTimeout: boolean;
  readonly chains: readonly ChainConfig[];
  readonly defaultChain: ChainConfig | undefined;
  /** Lines about connections that no chain took. */
  readonly accessLogs: readonly AccessLogConfig[];
  readonly direction: "inbound" | "outbound" | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export function readListener(bytes: Uint8Array): Read<ListenerConfig> {
  return readBytes(ListenerSchema, bytes, (message, place): ListenerConfig | undefined => {
    if (message.name === "") place.field("name").refuse("is missing");
    if (message.apiListener) return place.field("api_listener").refuse("is for clients without a proxy");
    if (message.udpListenerConfig) place.field("udp_listener_config").refuse("UDP is not proxied");
    const first = readSocketAddress(message.address, place.field("address"), { anyPort: true });
    const others = message.additionalAddresses.map((each, index) =>
      readSocketAddress(each.address, place.field("additional_addresses").item(index).field("address"), {
        anyPort: true,
      }),
    );
    const filters = readListenerFilters(message, place.field("listener_filters"));
    const logs = readAccessLogs(message.accessLog, place.field("access_log"));
    const scope = `${message.name}\n${JSON.stringify(logs)}`;
    const chains = message.filterChains.map((chain, index) =>
      readChain(chain, place.field("filter_chains").item(index), { index, scope }),
    );
    refuseDoubles(chains, place);
    const defaultChain =
      message.defaultFilterChain &&
      readChain(message.defaultFilterChain, place.field("default_filter_chain"), { index: -1, scope });
    if (chains.length === 0 && !message.defaultFilterChain) place.field("filter_chains").refuse("is empty");
    const timeoutMs = readDuration(message.listenerFiltersTimeout, 15_000, place.field("listener_filters_timeout"));
    return {
      name: message.name,
      addresses: [first, ...others].filter((address) => address !== undefined),
      bind: message.bindToPort ?? message.deprecatedV1?.bindToPort ?? true,
      handOver: message.useOriginalDst ?? false,
      filters,
      filtersTimeoutMs: timeoutMs === 0 ? undefined : timeoutMs,
      continueOnTimeout: message.continueOnListenerFiltersTimeout,
      chains: chains.filter((chain) => chain !== undefined),
      defaultChain,
      accessLogs: logs,
      direction: directions[message.trafficDirection],
      metadata: plainMetadata(message.metadata),
    };
  });
}

/** Names of the route configurations that a listener needs before it can serve. */
export function routesOf(listener: ListenerConfig): readonly string[] {
  const chains = listener.defaultChain ? [...listener.chains, listener.defaultChain] : listener.chains;
  return chains.flatMap(({ terminal }) =>
    terminal.kind === "http" && terminal.manager.routes.kind === "rds" ? [terminal.manager.routes.name] : [],
  );
}

const directions: Readonly<Record<number, "inbound" | "outbound">> = { 1: "inbound", 2: "outbound" };

const listenerFilterTypes = [
  [TlsInspectorSchema, "tls_inspector"],
  [HttpInspectorSchema, "http_inspector"],
  [OriginalDstSchema, "original_dst"],
  [ProxyProtocolSchema, "proxy_protocol"],
] as const;

function readListenerFilters(message: Listener, place: Place): readonly ListenerFilter[] {
  return message.listenerFilters.flatMap((filter, index) => {
    const at = place.item(index);
    const any = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
    for (const [schema, word] of listenerFilterTypes) {
      // A filter without settings may come by its well-known name alone.
      if (schema === ProxyProtocolSchema && isPacked(any, schema)) {
        const read = readAny(any, schema, at.field("typed_config"));
        return [read?.allowRequestsWithoutProxyProtocol ? "proxy_protocol_optional" : word];
      }
      if (isPacked(any, schema) || (!any && filter.name === `envoy.filters.listener.${word}`)) return [word];
    }
    at.refuse(`listener filter "${filter.name}" (${any?.typeUrl ?? "no configuration"}) is not known`);
    return [];
  });
}

function readChain(
  chain: FilterChain,
  place: Place,
  from: { readonly index: number; readonly scope: string },
): ChainConfig | undefined {
  const match = readMatch(chain.filterChainMatch, place.field("filter_chain_match"));
  const { tls } = readDownstreamTransport(chain.transportSocket, place.field("transport_socket"));
  const terminal = readTerminal(chain.filters, place.field("filters"));
  if (!terminal || !match) return undefined;
  const digest = createHash("sha256").update(from.scope).update(toBinary(FilterChainSchema, chain)).digest("base64");
  const name = chain.name || (from.index < 0 ? "default" : `#${from.index}`);
  return { name, digest, match, tls, terminal, metadata: plainMetadata(chain.metadata) };
}

const ranges = (messages: FilterChainMatch["prefixRanges"], place: Place) =>
  messages.map((range, index) => readCidr(range, place.item(index))).filter((cidr) => cidr !== undefined);

function readMatch(match: FilterChainMatch | undefined, place: Place): ChainMatch | undefined {
  const transport = match?.transportProtocol ?? "";
  if (transport !== "" && transport !== "tls" && transport !== "raw_buffer")
    return place.field("transport_protocol").refuse(`must be "tls" or "raw_buffer", got "${transport}"`);
  if (match && (match.addressSuffix !== "" || match.suffixLen !== undefined))
    place.field("address_suffix").refuse("is not known; use prefix_ranges");
  for (const [index, name] of (match?.serverNames ?? []).entries())
    if (name === "" || (name.includes("*") && !/^\*\.[^*]+$/.test(name)))
      place.field("server_names").item(index).refuse(`must be a name or "*." and a name, got "${name}"`);
  return {
    destinationPort: match?.destinationPort,
    prefixRanges: match ? ranges(match.prefixRanges, place.field("prefix_ranges")) : [],
    serverNames: (match?.serverNames ?? []).map((name) => name.toLowerCase()),
    transportProtocol: transport === "" ? undefined : transport,
    applicationProtocols: match?.applicationProtocols ?? [],
    sourceType:
      match?.sourceType === FilterChainMatch_ConnectionSourceType.SAME_IP_OR_LOOPBACK
        ? "local"
        : match?.sourceType === FilterChainMatch_ConnectionSourceType.EXTERNAL
          ? "external"
          : "any",
    sourceRanges: match ? ranges(match.sourcePrefixRanges, place.field("source_prefix_ranges")) : [],
    sourcePorts: match?.sourcePorts ?? [],
  };
}

/** Two chains that ask for the same would leave it to chance which one is taken. */
function refuseDoubles(chains: ReadonlyArray<ChainConfig | undefined>, place: Place): void {
  const taken = new Map<string, string>();
  for (const [index, chain] of chains.entries()) {
    if (!chain) continue;
    const { match } = chain;
    const orAny = <T>(list: readonly T[]) => (list.length > 0 ? list : [undefined]);
    for (const name of orAny(match.serverNames))
      for (const protocol of orAny(match.applicationProtocols))
        for (const range of orAny(match.prefixRanges)) {
          const rest = [
            match.destinationPort,
            match.transportProtocol,
            match.sourceType,
            match.sourceRanges,
            match.sourcePorts,
          ];
          const key = JSON.stringify([name, protocol, range, ...rest]);
          const other = taken.get(key);
          if (other !== undefined && other !== chain.digest + index) {
            const what = name === undefined ? "" : ` (server name "${name}")`;
            place.field("filter_chains").item(index).refuse(`asks for the same as an earlier chain${what}`);
            return;
          }
          taken.set(key, chain.digest + index);
        }
  }
}

function readTerminal(filters: readonly Filter[], place: Place): Terminal | undefined {
  const last = filters[filters.length - 1];
  if (!last) return place.refuse("is empty; a chain ends in a TCP proxy or an HTTP connection manager");
  for (const [index, filter] of filters.slice(0, -1).entries()) {
    const any = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
    const type = any?.typeUrl ?? "no configuration";
    place.item(index).refuse(`network filter "${filter.name}" (${type}) is not known`);
  }
  const at = place.item(filters.length - 1).field("typed_config");
  const any = last.configType.case === "typedConfig" ? last.configType.value : undefined;
  if (isPacked(any, HttpConnectionManagerSchema)) {
    const message = readAny(any, HttpConnectionManagerSchema, at);
    const manager = message && readHttpManager(message, at);
    return manager && { kind: "http", manager };
  }
  if (isPacked(any, TcpProxySchema)) {
    const message = readAny(any, TcpProxySchema, at);
    const tcp = message && readTcpProxy(message, at);
    return tcp && { kind: "tcp", tcp };
  }
  return at.refuse(
    `network filter "${last.name}" (${any?.typeUrl ?? "no configuration"}) is not known as the last of a chain`,
  );
}

const hourMs = 3_600_000;

function readHashBySource({ hashPolicy }: TcpProxy, place: Place): boolean {
  for (const [index, { policySpecifier }] of hashPolicy.entries())
    if (policySpecifier.case !== "sourceIp")
      place
        .field("hash_policy")
        .item(index)
        .refuse(`${policySpecifier.case ?? "nothing"} is not known; there is source_ip`);
  return hashPolicy.length > 0;
}

function readTcpProxy(message: TcpProxy, place: Place): TcpProxyConfig | undefined {
  const idle = readDuration(message.idleTimeout, hourMs, place.field("idle_timeout"));
  if (message.tunnelingConfig) place.field("tunneling_config").refuse("tunnels are not made");
  const chosen = message.clusterSpecifier;
  const clusters =
    chosen.case === "weightedClusters"
      ? chosen.value.clusters.map(({ name, weight }) => ({ name, weight }))
      : chosen.case === "cluster" && chosen.value !== ""
        ? [{ name: chosen.value, weight: 1 }]
        : [];
  if (clusters.length === 0) return place.field("cluster").refuse("is missing");
  const bad = clusters.findIndex(({ name, weight }) => name === "" || weight < 1);
  if (bad >= 0) place.field("weighted_clusters.clusters").item(bad).refuse("needs a name and a weight of at least 1");
  return {
    statPrefix: message.statPrefix,
    clusters,
    idleTimeoutMs: idle === 0 ? undefined : idle,
    maxDurationMs: readDuration(message.maxDownstreamConnectionDuration, undefined, place),
    hashBySource: readHashBySource(message, place),
    maxConnectAttempts: message.maxConnectAttempts ?? 1,
    accessLogs: readAccessLogs(message.accessLog, place.field("access_log")),
    logAtStart: message.accessLogOptions?.flushAccessLogOnConnected ?? false,
  };
}
