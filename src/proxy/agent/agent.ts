import { type AdsClient, startAdsClient } from "../../ads/index.ts";
import {
  type AdminAddress,
  Cell,
  type Clock,
  explain,
  type Logger,
  type Metrics,
  type Scope,
  startAdmin,
} from "../../base/index.ts";
import { startDnsServer } from "../../dns/index.ts";
import { type TypeUrl, typeUrls } from "../../proto/index.ts";
import { type Cidr, parseHostname, parseIp, type SocketAddress } from "../../values/index.ts";
import { ConfigStore } from "../config/store.ts";
import { loadOriginalDestination } from "../l4/original-dst.ts";
import { startProxy } from "../proxy.ts";
import { adminRoutes } from "./admin.ts";
import { type IdentityConfig, startIdentity } from "./identity.ts";
import { Names } from "./names.ts";
import { type NodeFacts, nodeMessage } from "./node.ts";
import { nameResolver } from "./resolver.ts";

export interface AgentConfig {
  readonly node: NodeFacts;
  readonly identity: IdentityConfig;
  readonly admin: readonly AdminAddress[];
  /** Ranges that the kernel captures even when the proxy connects to them, because it cannot tell who does. */
  readonly captured?: readonly Cidr[];
  /** The workload's own resolver: mesh names from what the control plane told last, others from `forwardTo`. */
  readonly dns:
    | {
        readonly listen: SocketAddress;
        readonly forwardTo: readonly SocketAddress[];
        readonly searches: readonly string[];
      }
    | undefined;
}

/**
 * A proxy with what stands beside it: its identity, what to run, the names of the mesh. Returns when all of it has begun;
 * `GET /ready` says when it can serve. Without the control plane it goes on with what it was told last.
 */
export async function startAgent(
  config: AgentConfig,
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<void> {
  const { clock, random, log, metrics } = deps;
  const captured = config.node.type === "sidecar" && config.node.interception === "REDIRECT";
  const originalDestination = captured ? loadOriginalDestination() : undefined;
  const suffixes = ["global", "cluster.local"].flatMap((name) => parseHostname(name) ?? []);
  const names = new Names({ suffixes, searches: config.dns?.searches ?? [] });
  const store = new ConfigStore({ clock, log });
  const identity = await startIdentity(config.identity, deps, scope);
  const resolve = nameResolver({ names, servers: config.dns?.forwardTo ?? [] });
  const told = new Cell<ReadonlySet<TypeUrl>>(new Set());
  let discovery: AdsClient | undefined;

  // Before the proxy, so that it stops after it: a workload that finishes its work still asks for names.
  if (config.dns) {
    const { listen, forwardTo } = config.dns;
    await startDnsServer(
      {
        listen: [listen],
        zone: names.zone,
        clock,
        log,
        metrics,
        ...(forwardTo.length > 0 ? { forward: { servers: forwardTo } } : {}),
      },
      scope,
    );
  }
  const proxy = await startProxy(
    {
      clock,
      random,
      log,
      metrics,
      store,
      secrets: identity.secrets,
      resolve,
      resolveDestination: async (host) => {
        const ip = parseIp(host);
        return ip ? [ip] : (await resolve(host, 4)).addresses;
      },
      originalDestination,
      captured: config.captured,
    },
    scope,
  );
  const ready = () => {
    const { current, problem } = identity.certificates;
    if (!current.value) return because("no certificate yet", problem.value);
    if (!told.value.has(typeUrls.listener)) {
      const state = discovery?.state.value;
      return because("no configuration yet", state?.phase === "waiting" ? state.failure : undefined);
    }
    const failing = proxy.listeners().find((listener) => listener.error !== undefined);
    return failing ? `listener "${failing.name}": ${failing.error}` : undefined;
  };
  for (const address of config.admin) {
    await startAdmin(
      { address, routes: adminRoutes({ ready, store, proxy, identity, metrics, node: config.node }) },
      scope,
    );
  }

  // Discovery wants a certificate from its callers. Nothing waits for it: the rest is up, and says that it is not ready.
  identity.certificates.ready(scope.signal).then(
    () => discover(),
    (err) => log.debug({ err }, "stopped before the first certificate"),
  );

  function discover(): void {
    const byName = (wanted: ReadonlySet<string>) => ({ all: false, names: wanted });
    const everything = { all: true, names: new Set<string>() };
    const client = startAdsClient(
      {
        target: config.identity.discovery,
        security: identity.security,
        node: () => nodeMessage(config.node),
        interests: new Map<TypeUrl, { all: boolean; names: ReadonlySet<string> }>([
          [typeUrls.cluster, everything],
          [typeUrls.listener, everything],
          [typeUrls.names, everything],
          [typeUrls.endpoints, byName(store.wanted.value.endpoints)],
          [typeUrls.route, byName(store.wanted.value.routes)],
        ]),
        apply({ typeUrl, updated, removed }) {
          const refusals =
            typeUrl === typeUrls.names
              ? names.apply(updated, removed)
              : store.apply(typeUrl, updated, removed).map(({ name, message }) => ({ name, reason: message }));
          client.want(typeUrls.endpoints, byName(store.wanted.value.endpoints));
          client.want(typeUrls.route, byName(store.wanted.value.routes));
          if (!told.value.has(typeUrl)) told.set(new Set([...told.value, typeUrl]));
          return refusals;
        },
        clock,
        random,
        log: log.child({ part: "ads" }),
      },
      scope,
    );
    discovery = client;
  }
}

function because(what: string, failure: unknown): string {
  return failure === undefined ? what : `${what}: ${explain(failure)}`;
}
