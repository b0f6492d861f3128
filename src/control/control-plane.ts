import { type AdsServer, createAdsServer, startGrpcServer, type TlsMaterial } from "../ads/index.ts";
import { Cell, Failure, type Metrics, type Scope, sleep, startAdmin, within } from "../base/index.ts";
import {
  Authority,
  anyVerifier,
  type CacertsSource,
  certificateService,
  createCallers,
  startCacerts,
  startServerCertificate,
  startTokenVerifier,
  type TokenVerifier,
} from "../ca/index.ts";
import { startDnsServer } from "../dns/index.ts";
import type { Mesh } from "../model/index.ts";
import { type FolderSource, ResourceStore, startFolderSource } from "../sources/index.ts";
import { formatSocketAddress, type SocketAddress, spiffeId } from "../values/index.ts";
import { adminRoutes } from "./admin.ts";
import { nodeAdmission } from "./admission.ts";
import { type ControlConfig, type ControlDeps, serverNames } from "./config.ts";
import { type InKubernetes, inKubernetes } from "./in-kubernetes.ts";
import { nodeSnapshots } from "./node-snapshots.ts";
import { startPipeline } from "./pipeline.ts";
import { healthRoutes, Readiness } from "./readiness.ts";
import { startZone } from "./zone.ts";

/** A control plane that runs. */
export interface ControlPlane {
  readonly mesh: Cell<Mesh>;
  readonly store: ResourceStore;
  readonly ads: AdsServer;
  readonly cacerts: CacertsSource;
  /** Where it listens, with the ports that were free where the configuration says 0; `admin` is 0 on a Unix socket. */
  readonly ports: {
    readonly secure: number;
    readonly plaintext: number | undefined;
    readonly dns: number | undefined;
    readonly admin: number;
    readonly health: number | undefined;
    readonly webhooks: number | undefined;
  };
  /**
   * To be called before the scope closes, where others can take over: not ready any more from now on, another may lead,
   * and for `lingerMs` all that is asked is answered still, while proxies are sent elsewhere one after the other.
   */
  retire(lingerMs: number): Promise<void>;
}

/**
 * Puts a control plane together: resources → mesh → what proxies run and what names answer, beside the CA. Returns when
 * it serves. What can fail at start fails here, with a `Failure` that names the file or address; nothing stays behind.
 */
export async function startControlPlane(config: ControlConfig, deps: ControlDeps, scope: Scope): Promise<ControlPlane> {
  if (config.plaintext && !isLoopback(config.plaintext)) {
    throw new Failure(
      "control/plaintext",
      `discovery without TLS may listen on loopback only, not on "${formatSocketAddress(config.plaintext)}"`,
      { hint: "give it 127.0.0.1 or ::1, or turn it off" },
    );
  }
  const own = scope.child();
  try {
    return await startParts(config, deps, own);
  } catch (caught) {
    // What started is stopped again; what does not stop cleanly is no news beside why it did not start.
    await own.close().catch((err) => deps.log.debug({ err }, "not all stopped cleanly after a failed start"));
    throw caught;
  }
}

async function startParts(config: ControlConfig, deps: ControlDeps, scope: Scope): Promise<ControlPlane> {
  const { clock, log, metrics } = deps;
  const settings = { ...config.mesh, secretNamespaces: config.kubernetes?.secretNamespaces };
  const readiness = new Readiness();
  // Before all else: what is waited for is to be seen.
  const health = config.health && (await startHealth(config.health, { readiness, metrics }, scope));

  // An identity comes before any listening socket: who cannot prove who it is has nothing to serve.
  const cacerts = await startCacerts(
    { dir: config.cacertsDir, clock, log: log.child({ part: "ca" }), demo: config.demo ? "loud" : "refused" },
    scope,
  );
  const authority = new Authority({
    cacerts: cacerts.current,
    clock,
    settings: {
      trustDomain: settings.trustDomain,
      ...(config.workloadCertTtlMs === undefined ? {} : { defaultTtlMs: config.workloadCertTtlMs }),
    },
  });
  const cluster = config.kubernetes && inKubernetes({ config: config.kubernetes, settings, deps }, scope);
  const tokens = await startTokens({ config, cluster, deps });
  const callers = createCallers({ trustDomain: settings.trustDomain, clock, tokens });

  const store = new ResourceStore();
  const folders: FolderSource[] = [];
  for (const [index, dir] of config.configDirs.entries()) {
    const source = { name: `${index}`, dir, cluster: settings.cluster, store, clock, log, precedence: index };
    folders.push(await startFolderSource(source, scope));
  }
  const kubernetes = await cluster?.follow({ store, readiness });
  const { mesh, flush } = startPipeline({ store, settings, clock, log, metrics }, scope);

  const admission = nodeAdmission({ trustDomain: settings.trustDomain, clock });
  const ads = createAdsServer(
    {
      authenticate: admission.admit,
      watch: (node, caller) => nodeSnapshots(mesh, { node: admission.nodeOf(caller, node), log }),
      clock,
      log: log.child({ part: "ads" }),
      metrics,
    },
    scope,
  );
  const certificates = certificateService({ authority, callers, clock, log: log.child({ part: "ca" }), metrics });

  const material = await startServerMaterial({ authority, config, deps }, scope);
  const secure = await startGrpcServer(
    {
      listen: config.secure,
      security: { kind: "tls", material, clientCertificate: "optional" },
      services: [ads.serve({ requireCertificate: true }), certificates],
      log,
    },
    scope,
  );
  const plaintext =
    config.plaintext &&
    (await startGrpcServer(
      {
        listen: config.plaintext,
        security: { kind: "plaintext" },
        services: [ads.serve({ requireCertificate: false })],
        log,
      },
      scope,
    ));
  const dns =
    config.dns &&
    (await startDnsServer(
      {
        listen: [config.dns.listen],
        zone: startZone({ mesh, settings, log }, scope),
        clock,
        log: log.child({ part: "dns" }),
        metrics,
        ...(config.dns.forwardTo.length > 0 ? { forward: { servers: config.dns.forwardTo } } : {}),
      },
      scope,
    ));
  const webhooks = config.webhooks && (await cluster?.startWebhooks({ config: config.webhooks, material }));
  const leading = cluster?.contend({ store, mesh, ads, cacerts });
  const readNow = async () => {
    await Promise.all(folders.map((folder) => folder.readNow()));
    flush();
  };
  const admin = await startAdmin(
    {
      address: config.admin,
      routes: adminRoutes({ mesh, store, kubernetes, leading, readiness, ads, cacerts, metrics, settings, readNow }),
    },
    scope,
  );
  const ports = {
    secure: secure.port,
    plaintext: plaintext?.port,
    dns: dns?.addresses[0]?.port,
    admin,
    health,
    webhooks: webhooks?.port,
  };
  readiness.done("start");
  log.info(
    { cluster: settings.cluster, address: formatSocketAddress({ ip: config.secure.ip, port: secure.port }), ports },
    "control plane ready",
  );
  const retire = async (lingerMs: number) => {
    log.info({ lingerMs }, "retiring: others are to be asked from now on");
    readiness.stop();
    await leading?.leader.release();
    if (lingerMs <= 0) return;
    // First the word has to get round that this replica is not to be asked; then its proxies are sent to the others.
    await sleep(clock, lingerMs / 2, scope.signal).catch(() => {});
    await ads.sendAway(lingerMs / 2);
  };
  return { mesh, store, ads, cacerts, ports, retire };
}

async function startHealth(
  listen: SocketAddress,
  { readiness, metrics }: { readonly readiness: Readiness; readonly metrics: Metrics },
  scope: Scope,
): Promise<number> {
  const address = { host: listen.ip, port: listen.port };
  return await startAdmin({ address, routes: healthRoutes(readiness, metrics) }, scope);
}

/** By public keys where a file of them is named, and by asking the cluster where there is one: keys first, which costs nobody. */
async function startTokens({
  config,
  cluster,
  deps: { clock, log },
}: {
  readonly config: ControlConfig;
  readonly cluster: InKubernetes | undefined;
  readonly deps: ControlDeps;
}): Promise<TokenVerifier | undefined> {
  const verifiers: TokenVerifier[] = [];
  if (config.tokenKeysFile !== undefined) {
    const onProblem = (err: Failure) => log.warn({ err }, "new keys for tokens not taken, the last good ones stay");
    verifiers.push(await startTokenVerifier({ keysFile: config.tokenKeysFile, clock, onProblem }));
  }
  if (cluster) verifiers.push(cluster.tokens);
  return verifiers.length > 1 ? anyVerifier(verifiers) : verifiers[0];
}

function isLoopback({ ip }: SocketAddress): boolean {
  return ip.startsWith("127.") || ip === "::1";
}

/** The control plane's own certificate, signed by its own CA, with the names that workloads reach it by. */
async function startServerMaterial(
  options: { readonly authority: Authority; readonly config: ControlConfig; readonly deps: ControlDeps },
  scope: Scope,
): Promise<Cell<TlsMaterial>> {
  const { authority, config, deps } = options;
  const { mesh: settings } = config;
  const certificates = startServerCertificate(
    {
      authority,
      identity: spiffeId({
        trustDomain: settings.trustDomain,
        namespace: settings.systemNamespace,
        serviceAccount: "isthmus",
      }),
      dnsNames: serverNames(settings.systemNamespace, settings.clusterDomain, config.kubernetes?.revision),
      ips: [config.secure.ip, ...config.addresses],
      clock: deps.clock,
      random: deps.random,
      log: deps.log,
      metrics: deps.metrics,
    },
    scope,
  );
  try {
    const first = await certificates.ready(scope.signal);
    const material = new Cell<TlsMaterial>(first);
    scope.defer(certificates.current.subscribe((now) => now && material.set(now)));
    return material;
  } catch (caught) {
    throw within("the control plane's own certificate", caught);
  }
}
