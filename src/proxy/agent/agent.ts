import {
  type AdminAddress,
  type Clock,
  Failure,
  type Logger,
  type Metrics,
  type Scope,
  startAdmin,
} from "../../base/index.ts";
import { startDnsServer } from "../../dns/index.ts";
import { type Cidr, parseIp, type SocketAddress } from "../../values/index.ts";
import { ConfigStore } from "../config/store.ts";
import { loadOriginalDestination } from "../l4/original-dst.ts";
import { startProxy } from "../proxy.ts";
import { forkWorkers, type WorkerProgram } from "../workers/fork.ts";
import { handleBinder } from "../workers/shared-sockets.ts";
import { startWorkers, type Workers } from "../workers/workers.ts";
import { adminRoutes } from "./admin.ts";
import { type DataPath, ownDataPath } from "./data-path.ts";
import { prepareDiscovery } from "./discovery.ts";
import { allSecrets, startFileSecrets } from "./file-secrets.ts";
import { type IdentityConfig, startIdentity } from "./identity.ts";
import { openKeptState } from "./kept-state.ts";
import { Names, suffixesOf } from "./names.ts";
import { type NodeFacts, nodeMessage } from "./node.ts";
import { type PodServers, startPodServers } from "./pod-server.ts";
import { readiness } from "./readiness.ts";
import { nameResolver } from "./resolver.ts";

export interface AgentConfig {
  readonly node: NodeFacts;
  readonly identity: IdentityConfig;
  readonly admin: readonly AdminAddress[];
  /** What others than the machine itself may ask. */
  readonly podServers?: PodServers;
  /**
   * Where it keeps what it was told and its certificate with the key, for the next start while the control plane is away:
   * a folder that does not outlive the machine and is no other's. Without, each start begins with nothing.
   */
  readonly stateDir?: string;
  /** Ranges that the kernel captures even when the proxy connects to them, because it cannot tell who does. */
  readonly captured?: readonly Cidr[];
  /**
   * In how many processes connections are served, each on a core of its own: the present one when there is to be but one,
   * else so many workers beside it. Limits and what is learned of endpoints (outliers) are each worker's own.
   */
  readonly workers?: { readonly count: number; readonly program: WorkerProgram };
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
 * `GET /ready` says when it can serve. Without the control plane it goes on with what it was told last, also after a
 * restart when it was given a folder for that.
 */
export async function startAgent(
  config: AgentConfig,
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<void> {
  const { clock, random, log, metrics } = deps;
  const captured = config.node.type === "sidecar" && config.node.interception === "REDIRECT";
  const names = new Names({ suffixes: suffixesOf(config.node.clusterDomain), searches: config.dns?.searches ?? [] });
  let workers: Workers | undefined;
  const store = new ConfigStore({ clock, log, onTaken: (...taken) => workers?.onTaken(...taken) });
  scope.defer(() => store.stop());
  const kept =
    config.stateDir === undefined
      ? undefined
      : await openKeptState({ dir: config.stateDir, node: config.node }, { clock, log }, scope);
  const identity = await startIdentity(config.identity, { ...deps, kept }, scope);
  const { certificates } = identity;
  const files = startFileSecrets({ clock, log }, scope);
  const lookAtFiles = () => void files.want(store.wanted.value.agentSecrets);
  scope.defer(store.wanted.subscribe(lookAtFiles));
  // What was kept is in force before there are sockets, and names before the resolver is asked for them.
  const discovery = prepareDiscovery(
    {
      target: config.identity.discovery,
      node: () => nodeMessage(config.node),
      store,
      names,
      kept: kept?.configuration,
      onChange: (read) => kept?.keepConfiguration(read),
      clock,
      random,
      log,
      metrics,
    },
    scope,
  );
  const resolve = nameResolver({ names, servers: config.dns?.forwardTo ?? [] });

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
  // Stops after the proxy too: while that drains, whoever asks is told so.
  const adminScope = scope.child();
  const resolveDestination = async (host: string) => {
    const ip = parseIp(host);
    return ip ? [ip] : (await resolve(host, 4)).addresses;
  };
  const parts = { clock, random, log, metrics, store, resolve, resolveDestination };
  const startOwn = async () => {
    const originalDestination = captured ? loadOriginalDestination() : undefined;
    const secrets = allSecrets([identity.secrets, store.secrets, files.current], scope);
    const own = { ...parts, secrets, originalDestination, captured: config.captured };
    return ownDataPath(await startProxy(own, scope), metrics);
  };
  const wanted = config.workers && config.workers.count > 1 ? config.workers : undefined;
  const bind = handleBinder();
  if (wanted && !bind) log.warn({}, "this runtime cannot share sockets among processes; going on with one");
  if (wanted && bind) {
    const { count, program } = wanted;
    const settings = { redirected: captured, captured: config.captured ?? [] };
    // Keys that the control plane told go with the configuration.
    const secrets = allSecrets([identity.secrets, files.current], scope);
    workers = startWorkers({ ...parts, secrets, count, settings, bind, start: forkWorkers(program, { log }) }, scope);
  }
  const proxy: DataPath = workers ?? (await startOwn());
  const ready = readiness({
    clock,
    scope,
    certificates,
    store,
    proxy,
    told: () => discovery.told,
    discoveryFailure: () => discovery.failure,
    needsNames: config.dns !== undefined,
  });
  const routes = adminRoutes({
    ready,
    stopping: () => scope.closed,
    store,
    proxy,
    identity,
    node: config.node,
  });
  for (const address of config.admin) await startAdmin({ address, routes }, adminScope);
  await startPodServers(config.podServers, { routes, node: config.node }, adminScope);

  // Discovery wants a certificate from its callers. Nothing waits for it: the rest is up, and says that it is not ready.
  certificates
    .ready(scope.signal)
    .then(() => discovery.start(identity.security))
    .catch((caught: unknown) => {
      if (scope.closed) log.debug({}, "stopped before the first certificate");
      else log.error({ err: Failure.from(caught) }, "discovery could not be started");
    });
}
