import { type AdsServer, createAdsServer, startGrpcServer, type TlsMaterial } from "../ads/index.ts";
import { Cell, type Clock, Failure, type Logger, type Metrics, type Scope, startAdmin, within } from "../base/index.ts";
import {
  Authority,
  type CacertsSource,
  certificateService,
  createCallers,
  startCacerts,
  startServerCertificate,
  startTokenVerifier,
} from "../ca/index.ts";
import { startDnsServer } from "../dns/index.ts";
import { createKubeClient } from "../kube/index.ts";
import { type Mesh, meshKinds } from "../model/index.ts";
import {
  type FolderSource,
  type KubernetesSource,
  ResourceStore,
  startFolderSource,
  startKubernetesSource,
} from "../sources/index.ts";
import { formatSocketAddress, type SocketAddress, spiffeId } from "../values/index.ts";
import { adminRoutes } from "./admin.ts";
import { nodeAdmission } from "./admission.ts";
import { type ControlConfig, serverNames } from "./config.ts";
import { nodeSnapshots } from "./node-snapshots.ts";
import { startPipeline } from "./pipeline.ts";
import { startZone } from "./zone.ts";

export interface ControlDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
}

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
  };
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
  const { mesh: settings } = config;

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
  const tokens =
    config.tokenKeysFile === undefined
      ? undefined
      : await startTokenVerifier({
          keysFile: config.tokenKeysFile,
          clock,
          onProblem: (err) => log.warn({ err }, "new keys for tokens not taken, the last good ones stay"),
        });
  const callers = createCallers({ trustDomain: settings.trustDomain, clock, tokens });

  const store = new ResourceStore();
  const folders: FolderSource[] = [];
  for (const [index, dir] of config.configDirs.entries()) {
    const source = { name: `${index}`, dir, cluster: settings.cluster, store, clock, log, precedence: index };
    folders.push(await startFolderSource(source, scope));
  }
  const kubernetes =
    config.kubernetes && (await followKubernetes(config.kubernetes, { cluster: settings.cluster, deps, store }, scope));
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
  const readNow = async () => {
    await Promise.all(folders.map((folder) => folder.readNow()));
    flush();
  };
  const admin = await startAdmin(
    {
      address: config.admin,
      routes: adminRoutes({ mesh, store, kubernetes, ads, cacerts, metrics, settings, readNow }),
    },
    scope,
  );
  const ports = { secure: secure.port, plaintext: plaintext?.port, dns: dns?.addresses[0]?.port, admin };
  log.info(
    { cluster: settings.cluster, address: formatSocketAddress({ ip: config.secure.ip, port: secure.port }), ports },
    "control plane ready",
  );
  return { mesh, store, ads, cacerts, ports };
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
      dnsNames: serverNames(settings.systemNamespace, settings.clusterDomain),
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

/** Below the folders: what an operator puts beside the program goes before what the cluster holds. */
const kubernetesPrecedence = -1;

async function followKubernetes(
  { access, env }: NonNullable<ControlConfig["kubernetes"]>,
  { cluster, deps, store }: { readonly cluster: string; readonly deps: ControlDeps; readonly store: ResourceStore },
  scope: Scope,
): Promise<KubernetesSource> {
  const { clock, random } = deps;
  const log = deps.log.child({ part: "kubernetes" });
  const client = createKubeClient({ access, clock, env, userAgent: "isthmus-controlplane" }, scope);
  log.info({ server: access.server }, "reading the cluster");
  return await startKubernetesSource(
    {
      client,
      cluster,
      kinds: meshKinds,
      mayBeForbidden: ["Secret"],
      store,
      clock,
      random,
      log,
      precedence: kubernetesPrecedence,
    },
    scope,
  );
}
