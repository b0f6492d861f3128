import { type AdsServer, createAdsServer, grpcFailure, startGrpcServer, type TlsMaterial } from "../ads/index.ts";
import {
  Cell,
  type Clock,
  Failure,
  type Logger,
  type Metrics,
  type Scope,
  startAdmin,
  until,
  within,
} from "../base/index.ts";
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
import { type Mesh, namesFor } from "../model/index.ts";
import type { Node } from "../proto/gen/envoy/config/core/v3/base_pb.js";
import type { Snapshot } from "../proto/index.ts";
import { ResourceStore, startFolderSource } from "../sources/index.ts";
import { formatSocketAddress, type SpiffeId, spiffeId, spiffeParts } from "../values/index.ts";
import { type ProxyNode, readNode, snapshotFor } from "../xds/index.ts";
import { adminRoutes } from "./admin.ts";
import { type ControlConfig, serverNames } from "./config.ts";
import { startPipeline } from "./pipeline.ts";
import { zoneOf } from "./zone.ts";

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
}

/**
 * Puts a control plane together: resources → mesh → what proxies run and what names answer, beside the CA. Returns when
 * it serves. What can fail at start fails here, with a `Failure` that names the file or address; nothing stays behind.
 */
export async function startControlPlane(config: ControlConfig, deps: ControlDeps, scope: Scope): Promise<ControlPlane> {
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
      : await startTokenVerifier({ keysFile: config.tokenKeysFile, clock });
  const callers = createCallers({ trustDomain: settings.trustDomain, clock, tokens });

  const store = new ResourceStore();
  for (const [index, dir] of config.configDirs.entries()) {
    await startFolderSource(
      { name: `${index}`, dir, cluster: settings.cluster, store, clock, log, precedence: index },
      scope,
    );
  }
  const mesh = startPipeline({ store, settings, clock, log, metrics }, scope);

  const ads = createAdsServer(
    {
      authenticate: (caller, node) => admit(caller.certificate?.spiffeIds ?? [], node, settings.trustDomain),
      watch: (node, caller, own) => watchSnapshot(mesh, nodeOf(node, caller.certificate?.spiffeIds[0]), own),
      clock,
      log: log.child({ part: "ads" }),
      metrics,
    },
    scope,
  );
  const certificates = certificateService({ authority, callers, clock, log: log.child({ part: "ca" }), metrics });

  const material = await startServerMaterial({ authority, config, deps }, scope);
  await startGrpcServer(
    {
      listen: config.secure,
      security: { kind: "tls", material, clientCertificate: "optional" },
      services: [ads.serve({ requireCertificate: true }), certificates],
      log,
    },
    scope,
  );
  if (config.plaintext) {
    if (!config.plaintext.ip.startsWith("127.") && config.plaintext.ip !== "::1") {
      throw new Failure(
        "control/plaintext",
        `discovery without TLS may listen on loopback only, not on "${formatSocketAddress(config.plaintext)}"`,
      );
    }
    await startGrpcServer(
      {
        listen: config.plaintext,
        security: { kind: "plaintext" },
        services: [ads.serve({ requireCertificate: false })],
        log,
      },
      scope,
    );
  }
  if (config.dns) {
    const zone = new Cell(zoneOf(namesFor(mesh.value), settings));
    scope.defer(mesh.subscribe((now) => zone.set(zoneOf(namesFor(now), settings))));
    await startDnsServer(
      {
        listen: [config.dns.listen],
        zone,
        clock,
        log: log.child({ part: "dns" }),
        metrics,
        ...(config.dns.forwardTo.length > 0 ? { forward: { servers: config.dns.forwardTo } } : {}),
      },
      scope,
    );
  }
  await startAdmin(
    { address: config.admin, routes: adminRoutes({ mesh, store, ads, cacerts, metrics, settings }) },
    scope,
  );
  log.info({ cluster: settings.cluster, address: formatSocketAddress(config.secure) }, "control plane ready");
  return { mesh, store, ads, cacerts };
}

/** One identity, of our trust domain, of the node's own namespace: nobody gets what others run. */
function admit(identities: readonly SpiffeId[], node: Node, trustDomain: string) {
  if (identities.length > 1) return { ok: false, reason: "the certificate names more than one identity" } as const;
  const [identity] = identities;
  if (identity && spiffeParts(identity)?.trustDomain !== trustDomain) {
    return { ok: false, reason: `"${identity}" is not of trust domain "${trustDomain}"` } as const;
  }
  const read = readNode(node, identity);
  return read.ok ? ({ ok: true } as const) : read;
}

function nodeOf(node: Node, identity: SpiffeId | undefined): ProxyNode {
  const read = readNode(node, identity);
  if (!read.ok) throw grpcFailure("invalid-argument", read.reason);
  return read.node;
}

/** What one node should run, now and after each change of the mesh. */
function watchSnapshot(mesh: Cell<Mesh>, node: ProxyNode, scope: Scope): Cell<Snapshot> {
  const snapshot = new Cell(snapshotFor(mesh.value, node));
  scope.defer(mesh.subscribe((now) => snapshot.set(snapshotFor(now, node))));
  return snapshot;
}

/** The control plane's own certificate, signed by its own CA, with the names that workloads reach it by. */
async function startServerMaterial(
  options: { readonly authority: Authority; readonly config: ControlConfig; readonly deps: ControlDeps },
  scope: Scope,
): Promise<Cell<TlsMaterial>> {
  const { authority, config, deps } = options;
  const { settings } = { settings: config.mesh };
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
    await until(material, () => true);
    return material;
  } catch (caught) {
    throw within("the control plane's own certificate", caught);
  }
}
