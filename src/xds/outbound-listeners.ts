import type { Mesh, Service } from "../model/index.ts";
import { TrafficDirection } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { FilterChainSchema } from "../proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { ListenerSchema } from "../proto/gen/envoy/config/listener/v3/listener_pb.js";
import type { Versioned } from "../proto/index.ts";
import { clusterName, type Hostname, type Ip, outbound, SortedMap } from "../values/index.ts";
import type { Client } from "./client.ts";
import { lazily, versioned } from "./encode.ts";
import { httpConnection, tcpProxy } from "./http-connection.ts";
import { type Bind, type TcpChain, type Wish, wishesOf } from "./listener-wishes.ts";
import { fallbackCluster, listenerFilters, plainHttp } from "./listeners.ts";
import { tcpOptionsFor } from "./tcp-options.ts";
import { tcpRoutes } from "./tcp-routes.ts";
import type { Seen } from "./touched.ts";
import { type Fields, milliseconds, socketAddress } from "./typed.ts";

/**
 * A declared HTTP port may wait long for its first byte: taking a slow client for TCP would send its request to an
 * address that does not exist. Only a server that speaks first, behind somebody else's port of the same number, pays.
 */
const httpPatienceMs = 5_000;

/** All that services want of one listener, by host: those that only speak HTTP there, and those with a chain of their own. */
interface Group {
  readonly bind: Bind;
  readonly plain: SortedMap<Hostname, Service>;
  readonly chained: SortedMap<Hostname, readonly Wish[]>;
}

/** The outbound listeners beside 15001, and what they are made from. They are not bound: 15001 hands connections to them. */
export interface ListenerStage {
  readonly groups: SortedMap<string, Group>;
  readonly made: SortedMap<string, Versioned>;
}

export const noListeners: ListenerStage = { groups: SortedMap.empty(), made: SortedMap.empty() };

interface Edit {
  readonly bind: Bind;
  readonly plain: Map<Hostname, Service | undefined>;
  readonly chained: Map<Hostname, Wish[] | undefined>;
}

/** Makes anew the listeners of touched hosts, where that changes anything for them. */
export function nextListeners(
  before: ListenerStage,
  parts: {
    readonly before: Pick<Seen, "services">;
    readonly now: Seen;
    readonly touched: ReadonlySet<Hostname>;
    readonly client: Client;
  },
): ListenerStage {
  const { now, touched, client } = parts;
  const groups = new Map<string, Group | undefined>();
  const made = new Map<string, Versioned | undefined>();
  for (const [name, edit] of editsOf(parts.before.services, { services: now.services, touched })) {
    const old = before.groups.get(name);
    const group: Group = {
      bind: edit.bind,
      plain: (old?.plain ?? SortedMap.empty<Hostname, Service>()).with(edit.plain),
      chained: (old?.chained ?? SortedMap.empty<Hostname, readonly Wish[]>()).with(edit.chained),
    };
    const gone = group.plain.size === 0 && group.chained.size === 0;
    groups.set(name, gone ? undefined : group);
    const known = before.made.get(name);
    // Of those that speak HTTP there, the listener says no more than that there are any.
    const sameBytes = known && edit.chained.size === 0 && old!.plain.size > 0 && group.plain.size > 0;
    if (sameBytes && [...edit.plain].every(([host, service]) => sameOrigins(old!.plain.get(host), service))) continue;
    made.set(
      name,
      gone ? undefined : resourceOf(name, group, sameBytes ? known : encodeListener(now.mesh, { name, group, client })),
    );
  }
  return { groups: before.groups.with(groups), made: before.made.with(made) };
}

function resourceOf(name: string, group: Group, encoded: Pick<Versioned, "version" | "bytes">): Versioned {
  return lazily({
    name,
    version: encoded.version,
    bytes: () => encoded.bytes,
    origins: () => {
      const services = new Map<Hostname, Service>(group.plain);
      for (const [host, [wish]] of group.chained) services.set(host, wish!.service);
      return [...new Set([...SortedMap.from(services).values()].flatMap((service) => service.origins))];
    },
  });
}

function sameOrigins(before: Service | undefined, after: Service | undefined): boolean {
  return JSON.stringify(before?.origins) === JSON.stringify(after?.origins);
}

/** What touched hosts no longer want, and what they want now, listener by listener. */
function editsOf(
  before: Seen["services"],
  { services, touched }: { readonly services: Seen["services"]; readonly touched: ReadonlySet<Hostname> },
): ReadonlyMap<string, Edit> {
  const edits = new Map<string, Edit>();
  const editOf = ({ name, bind }: Wish): Edit => {
    let edit = edits.get(name);
    if (!edit) {
      edit = { bind, plain: new Map(), chained: new Map() };
      edits.set(name, edit);
    }
    return edit;
  };
  for (const host of touched) {
    for (const wish of wishesOf(before.get(host)))
      (wish.chain ? editOf(wish).chained : editOf(wish).plain).set(host, undefined);
    for (const wish of wishesOf(services.get(host))) {
      const { plain, chained } = editOf(wish);
      if (!wish.chain) plain.set(host, wish.service);
      else chained.set(host, [...(chained.get(host) ?? []), wish]);
    }
  }
  return edits;
}

interface ListenerLayout extends Bind {
  readonly http: boolean;
  readonly tcp: readonly TcpChain[];
  /** Whether it stands for one address. */
  readonly alone: boolean;
}

/** On an address of its own the first service takes all; elsewhere each has its chain. */
function layoutOf({ bind, plain, chained }: Group): ListenerLayout {
  const wishes = [...chained.values()].flat();
  const [first] = wishes;
  const used = first?.alone ? [first] : wishes;
  return {
    ...(first ? first.bind : bind),
    http: plain.size > 0 || used.some((one) => one.http),
    tcp: used.flatMap((one) => one.chain ?? []),
    alone: first?.alone === true,
  };
}

function encodeListener(
  mesh: Mesh,
  { name, group, client }: { readonly name: string; readonly group: Group; readonly client: Client },
): Pick<Versioned, "version" | "bytes"> {
  const { bind, port, routes, http, tcp, alone } = layoutOf(group);
  const fallback = fallbackCluster(mesh);
  const chains: Fields<typeof FilterChainSchema>[] = [];
  if (http)
    chains.push({
      name: `${name}-http`,
      // A ClientHello may offer http/1.1 too; that is not plain HTTP.
      filterChainMatch: { transportProtocol: "raw_buffer", applicationProtocols: [...plainHttp] },
      filters: [httpConnection({ listener: name, side: "outbound", routes: { kind: "named", name: routes } })],
    });
  let last: Fields<typeof FilterChainSchema> | undefined;
  const seen = new Set<string>();
  // The list is in order of host name; of chains that match the same, a listener can have only one.
  const address = alone ? (bind as Ip) : undefined;
  const routed = tcp.flatMap((chain) => tcpRoutes(mesh, { chain, address, client }).map((route) => ({ chain, route })));
  for (const { chain, route } of routed) {
    const { service, port: servicePort } = chain;
    const { ranges, serverNames, to } = route;
    const filters = [
      tcpProxy({
        listener: name,
        statPrefix: clusterName(outbound(service.hostname, servicePort.number)),
        to,
        connection: tcpOptionsFor(mesh, { to, client }),
      }),
    ];
    if (ranges.length === 0 && serverNames.length === 0) {
      last ??= { name: `${name}-tcp`, filters };
      continue;
    }
    const match = {
      prefixRanges: ranges.map(({ ip, prefix }) => ({ addressPrefix: ip as string, prefixLen: prefix })),
      serverNames: [...serverNames],
    };
    const identity = JSON.stringify(match);
    if (seen.has(identity)) continue;
    seen.add(identity);
    chains.push({ name: `${name}-${service.hostname}`, filterChainMatch: match, filters });
  }
  last ??= {
    name: "PassthroughFilterChain",
    filters: [tcpProxy({ listener: name, statPrefix: fallback, to: fallback, attempts: 1 })],
  };
  const inspects = http || routed.some(({ route }) => route.serverNames.length > 0);
  return versioned(ListenerSchema, {
    name,
    origins: [],
    message: {
      name,
      address: socketAddress(bind, port),
      bindToPort: false,
      trafficDirection: TrafficDirection.OUTBOUND,
      filterChains: chains,
      defaultFilterChain: last,
      ...(inspects
        ? {
            listenerFilters: [listenerFilters.tls, ...(http ? [listenerFilters.http] : [])],
            listenerFiltersTimeout: milliseconds(tcp.length > 0 ? mesh.settings.detectionTimeoutMs : httpPatienceMs),
            continueOnListenerFiltersTimeout: true,
          }
        : {}),
    },
  });
}
