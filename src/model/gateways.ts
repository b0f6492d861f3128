import { type Gateway, proxyProtocol } from "../resources/index.ts";
import { isHttp, isTls, type Labels, type Origin, selects } from "../values/index.ts";
import { byAge } from "./age.ts";

/** One server of one Gateway. The same object as long as the resource is. */
export interface GatewayServer {
  readonly gateway: { readonly name: string; readonly namespace: string };
  /** `namespace/name` of the Gateway. */
  readonly key: string;
  readonly selector: Labels;
  readonly server: Gateway["spec"]["servers"][number];
  readonly index: number;
  /** Whether who calls is said by the PROXY protocol, on the ports of the whole Gateway. */
  readonly proxyProtocol: "require" | "accept" | undefined;
  readonly created: number;
  readonly origin: Origin;
}

const made = new WeakMap<Gateway, readonly GatewayServer[]>();

export function buildGatewayServers(gateways: Iterable<Gateway>): readonly GatewayServer[] {
  const all: GatewayServer[] = [];
  for (const gateway of gateways) {
    let servers = made.get(gateway);
    if (!servers) {
      const { name, namespace, creationTimestamp } = gateway.metadata;
      servers = gateway.spec.servers.map((server, index) =>
        Object.freeze({
          gateway: Object.freeze({ name, namespace }),
          key: `${namespace}/${name}`,
          selector: gateway.spec.selector,
          server,
          index,
          proxyProtocol: proxyProtocol.read(gateway.metadata.annotations),
          created: creationTimestamp ?? 0,
          origin: gateway.origin,
        }),
      );
      made.set(gateway, servers);
    }
    all.push(...servers);
  }
  return Object.freeze(
    all.sort(
      (a, b) => byAge({ created: a.created, ...a.gateway }, { created: b.created, ...b.gateway }) || a.index - b.index,
    ),
  );
}

/** The servers that a workload with these labels runs, oldest first. A Gateway without selector is for none. */
export function serversOf(servers: readonly GatewayServer[], labels: Labels): readonly GatewayServer[] {
  return servers.filter((one) => Object.keys(one.selector).length > 0 && selects(one.selector, labels));
}

/** What a server does with a port: routes requests, chooses by server name, or takes all bytes. A port does one of them. */
export type ServerKind = "http" | "tls" | "tcp";

export function serverKind({ port }: GatewayServer["server"]): ServerKind {
  return isHttp(port.protocol) ? "http" : isTls(port.protocol) ? "tls" : "tcp";
}

const kindWords: Readonly<Record<ServerKind, string>> = { http: "plain HTTP", tls: "TLS", tcp: "plain TCP" };

/** The Secrets that a server names, in order. */
export function credentialsOf({ tls }: GatewayServer["server"]): readonly string[] {
  if (tls === undefined || tls.mode === "ISTIO_MUTUAL") return [];
  return [...(tls.credentialName === undefined ? [] : [tls.credentialName]), ...tls.credentialNames];
}

/** What the younger of two servers of one workload cannot have: the port at all, or some of its hosts. */
export type Clash =
  | { readonly kind: "port"; readonly why: string }
  | { readonly kind: "hosts"; readonly hosts: readonly string[] };

export function clashOf(older: GatewayServer, younger: GatewayServer): Clash | undefined {
  const [a, b] = [older.server, younger.server];
  if (a.port.number !== b.port.number) return undefined;
  if (a.bind !== b.bind) {
    if (a.bind !== undefined && b.bind !== undefined) return undefined;
    return { kind: "port", why: "one binds an address of its own and the other all of them" };
  }
  const [had, wants] = [serverKind(a), serverKind(b)];
  if (had !== wants) return { kind: "port", why: `it is for ${kindWords[had]}, not ${kindWords[wants]}` };
  if (had === "tcp") return { kind: "port", why: "plain TCP has no names by which a port could be shared" };
  // HTTP servers share their hosts: the routes of both apply.
  if (had === "http") return undefined;
  const taken = new Set<string>(a.hosts.map(({ host }) => host));
  const hosts = b.hosts.map(({ host }) => host as string).filter((host) => taken.has(host));
  return hosts.length > 0 ? { kind: "hosts", hosts } : undefined;
}

/** One port of a gateway, with the servers that may have it: oldest first, those that cannot share it left out. */
export interface GatewayPort {
  readonly number: number;
  readonly bind: string | undefined;
  readonly kind: ServerKind;
  readonly servers: readonly GatewayServer[];
}

/** What the servers of one workload, oldest first, make of its ports. */
export function portsOf(servers: readonly GatewayServer[]): readonly GatewayPort[] {
  const ports = new Map<string, GatewayServer[]>();
  const taken: GatewayServer[] = [];
  for (const one of servers) {
    if (taken.some((older) => clashOf(older, one)?.kind === "port")) continue;
    taken.push(one);
    const key = `${one.server.port.number} ${one.server.bind ?? ""}`;
    ports.set(key, [...(ports.get(key) ?? []), one]);
  }
  return [...ports.values()].map((list) => {
    const { port, bind } = list[0]!.server;
    return { number: port.number, bind, kind: serverKind(list[0]!.server), servers: list };
  });
}
