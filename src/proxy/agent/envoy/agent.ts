import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, Failure, type Logger, type Metrics, type Scope, startAdmin } from "../../../base/index.ts";
import { startDnsServer } from "../../../dns/index.ts";
import { typeUrls } from "../../../proto/index.ts";
import { type Ip, parseIp } from "../../../values/index.ts";
import type { AgentConfig } from "../agent.ts";
import { startFileSecrets } from "../file-secrets.ts";
import { startIdentity } from "../identity.ts";
import { openKeptState } from "../kept-state.ts";
import { Names, suffixesOf } from "../names.ts";
import { nodeMessage } from "../node.ts";
import { startPodServers } from "../pod-server.ts";
import { nameResolver } from "../resolver.ts";
import { envoyAdminRoutes } from "./admin.ts";
import { type EnvoyAdmin, envoyBootstrap } from "./bootstrap.ts";
import { startExplicitFront } from "./explicit-front.ts";
import { startKeeping } from "./keep.ts";
import { startKeptSource } from "./kept-source.ts";
import { type NamesClient, startNamesClient } from "./names-client.ts";
import { startOutputPipe } from "./output-pipe.ts";
import { type EnvoyProcess, startEnvoyProcess } from "./process.ts";
import { envoyReadiness } from "./readiness.ts";
import { startSecretService } from "./sds.ts";

/** What an agent beside Envoy is told beyond what every agent is. */
export interface EnvoyAgentConfig extends Omit<AgentConfig, "captured"> {
  readonly envoy: {
    readonly binary: string;
    /** Of Envoy's own admin interface, on 127.0.0.1; on a Unix socket in the folder when undefined. */
    readonly adminPort: number | undefined;
    /** For the sockets and the bootstrap, of this agent alone; a new one, removed at the end, when undefined. */
    readonly runDir: string | undefined;
    readonly concurrency: number | undefined;
    readonly logLevel: string;
    /** Where Envoy listens for what applications asked of the explicit port; only beside one. */
    readonly explicitPort: number | undefined;
  };
}

/**
 * An unmodified Envoy with what stands beside it: its identity handed to it over a socket, its bootstrap, the names of the
 * mesh for the workload. Returns when all but Envoy has begun, which starts with the first certificate, because without
 * one the control plane does not talk to it. `GET /ready` says when it can serve.
 */
export async function startEnvoyAgent(
  config: EnvoyAgentConfig,
  deps: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly metrics: Metrics;
    /** Where Envoy's standard output goes, which is its access log. */
    readonly writeLine: (line: string) => void;
  },
  scope: Scope,
): Promise<void> {
  const { clock, log, metrics } = deps;
  const { dns, envoy: settings } = config;
  // Applications speak to the agent, and the control plane gives Envoy its listener behind it.
  const explicit = config.node.explicitPort;
  const node = explicit === undefined ? config.node : { ...config.node, explicitPort: settings.explicitPort };
  const folder = runFolder(settings.runDir, scope);
  const admin: EnvoyAdmin =
    settings.adminPort === undefined
      ? { path: join(folder, "envoy.sock") }
      : { host: "127.0.0.1", port: settings.adminPort };
  const names = new Names({ suffixes: suffixesOf(node.clusterDomain), searches: dns?.searches ?? [] });
  const kept =
    config.stateDir === undefined
      ? undefined
      : await openKeptState({ dir: config.stateDir, node }, { clock, log }, scope);
  const identity = await startIdentity(config.identity, { ...deps, kept }, scope);
  const secrets = join(folder, "sds.sock");
  const files = startFileSecrets({ clock, log }, scope);
  await startSecretService({ path: secrets, secrets: identity.secrets, files }, deps, scope);

  // Before Envoy, so that it stops after it: a workload that finishes its work still asks for names.
  if (dns) {
    await startDnsServer(
      {
        listen: [dns.listen],
        zone: names.zone,
        clock,
        log,
        metrics,
        ...(dns.forwardTo.length > 0 ? { forward: { servers: dns.forwardTo } } : {}),
      },
      scope,
    );
  }
  if (explicit !== undefined && settings.explicitPort !== undefined) {
    const resolve = nameResolver({ names, servers: dns?.forwardTo ?? [] });
    await startExplicitFront(
      {
        listen: { ip: "127.0.0.1" as Ip, port: explicit },
        envoyPort: settings.explicitPort,
        resolve: async (host) => {
          const ip = parseIp(host);
          return ip ? [ip] : (await resolve(host, 4)).addresses;
        },
      },
      { clock, log },
      scope,
    );
  }
  const { certificates } = identity;
  let envoy: EnvoyProcess | undefined;
  let client: NamesClient | undefined;
  const ready = envoyReadiness({
    clock,
    scope,
    certificates,
    admin,
    envoy: () => envoy,
    names: () => (dns || explicit !== undefined ? client : null),
  });
  const routes = envoyAdminRoutes({ ready, admin, identity, metrics, node });
  for (const address of config.admin) await startAdmin({ address, routes }, scope);
  await startPodServers(config.podServers, { routes, node }, scope);

  const resumed = kept?.configuration;
  const keptSource = scope.child();
  const keptSocket = resumed && join(folder, "kept.sock");
  if (resumed && keptSocket !== undefined) {
    const ageSeconds = Math.round((clock.now() - resumed.savedMs) / 1000);
    log.info({ resources: resumed.resources.length, ageSeconds }, "Envoy may begin with the kept configuration");
    await startKeptSource({ path: keptSocket, kept: resumed }, deps, keptSource);
  }
  const bootstrapFile = join(folder, "bootstrap.json");
  const bootstrap = envoyBootstrap({
    node: nodeMessage(node),
    discovery: config.identity.discovery,
    serverName: config.identity.serverName,
    secrets,
    admin,
    ...(keptSocket === undefined ? {} : { kept: keptSocket }),
  });
  writeFileSync(bootstrapFile, JSON.stringify(bootstrap, null, 2), { mode: 0o600 });
  const output = await startOutputPipe({ path: join(folder, "stdout"), onLine: deps.writeLine, clock }, scope);
  certificates
    .ready(scope.signal)
    .then(async () => {
      // Where there is no resolver, what it is told says at least when the control plane answers again.
      if (dns || resumed || explicit !== undefined) {
        const target = config.identity.discovery;
        const toldBefore = resumed?.resources.filter(({ type }) => type === typeUrls.names);
        const asked = { target, security: identity.security, node: () => nodeMessage(node), names, kept: toldBefore };
        client = startNamesClient(asked, deps, scope);
        scope.defer(
          client.connected.subscribe((connected) => {
            if (connected) void keptSource.close();
          }),
        );
      }
      const { binary, concurrency, logLevel } = settings;
      envoy = await startEnvoyProcess({ binary, bootstrapFile, admin, output, concurrency, logLevel }, deps, scope);
      if (kept) {
        const named = () => names.dump().map((received) => ({ type: typeUrls.names, ...received }));
        startKeeping({ admin, names: named, keep: (read) => kept.keepConfiguration(read) }, deps, scope);
      }
    })
    .catch((caught: unknown) => {
      if (scope.closed) log.debug({}, "stopped before the first certificate");
      else log.error({ err: Failure.from(caught) }, "Envoy could not be started");
    });
}

/** Closed to other users: whoever can open the socket in it has the key. */
function runFolder(wanted: string | undefined, scope: Scope): string {
  if (wanted !== undefined) {
    mkdirSync(wanted, { recursive: true, mode: 0o700 });
    return wanted;
  }
  const made = mkdtempSync(join(tmpdir(), "isthmus-"));
  scope.defer(() => rmSync(made, { recursive: true, force: true }));
  return made;
}
