import { type AdsServer, receiptState } from "../ads/index.ts";
import type { AdminRoutes, Cell, Metrics } from "../base/index.ts";
import { explain } from "../base/index.ts";
import type { CacertsSource } from "../ca/index.ts";
import type { Mesh, MeshSettings } from "../model/index.ts";
import type { KubernetesSource, ResourceStore } from "../sources/index.ts";
import type { LeaderWork } from "./cluster/leader-work.ts";
import { healthRoutes, type Readiness } from "./readiness.ts";
import { problemsOf, type StatusLine } from "./status.ts";

/** The paths of the admin API: health, metrics, what is wrong, and how far each proxy is. */
export function adminRoutes(parts: {
  readonly mesh: Cell<Mesh>;
  readonly store: ResourceStore;
  readonly kubernetes: KubernetesSource | undefined;
  readonly leading: LeaderWork | undefined;
  readonly readiness: Readiness;
  readonly ads: AdsServer;
  readonly cacerts: CacertsSource;
  readonly metrics: Metrics;
  readonly settings: MeshSettings;
  /** Reads all sources that can be read at will; resolves when the mesh holds what they say. */
  readonly readNow: () => Promise<void>;
}): AdminRoutes {
  const { mesh, store, kubernetes, leading, readiness, ads, cacerts, metrics, settings, readNow } = parts;
  return {
    ...healthRoutes(readiness, metrics),
    "GET /problems": () => ({
      json: problemsOf({
        problems: store.view.value.problems,
        behind: kubernetes?.behind() ?? [],
        findings: mesh.value.findings,
        receipts: ads.receipts,
        cacerts: cacerts.problem.value,
        cluster: [...(leading?.troubles() ?? []), ...leaseLines(leading)],
      }),
    }),
    // For whoever changed something and wants to know when it holds: after this, wait until all in syncz are settled.
    "POST /debug/read-now": async () => {
      await readNow();
      return { json: { services: mesh.value.services.size } };
    },
    "GET /debug/syncz": () => ({
      json: ads.connections().map((connection) => ({
        proxy: connection.nodeId,
        cluster: settings.cluster,
        address: connection.address,
        protocol: connection.protocol,
        settled: connection.settled,
        connectedAt: new Date(connection.connectedAtMs).toISOString(),
        types: Object.fromEntries(
          [...ads.receipts.of(connection.nodeId)].map(([typeUrl, receipt]) => [
            typeUrl.slice(typeUrl.lastIndexOf(".") + 1),
            { state: receiptState(receipt), ...(receipt.nacked ? { reason: receipt.nacked.reason } : {}) },
          ]),
        ),
      })),
    }),
    "GET /debug/registryz": () => ({
      json: [...mesh.value.services.values()].map((service) => ({
        hostname: service.hostname,
        namespace: service.namespace,
        addresses: service.addresses,
        ports: service.ports,
        endpoints: service.endpoints.map(({ address, ports, network }) => ({
          address,
          ports,
          ...(network ? { network } : {}),
        })),
        origins: service.origins,
      })),
    }),
    "GET /debug/leader": () => ({ json: leading ? leading.leader.state.value : { kind: "none" } }),
    "GET /debug/ca": () => ({
      json: {
        certificate: cacerts.current.value.certificate.title,
        notAfter: new Date(cacerts.current.value.notAfter).toISOString(),
        problem: cacerts.problem.value ? explain(cacerts.problem.value) : null,
      },
    }),
  };
}

/** A lease out of reach is nobody's leadership: what only a leader writes may be old. */
function leaseLines(leading: LeaderWork | undefined): readonly StatusLine[] {
  const failure = leading?.leader.problem.value;
  if (!failure) return [];
  const message = `whether this replica is to write into the cluster cannot be told: ${failure.message}`;
  return [{ severity: "error", code: failure.code, where: "Lease", message }];
}
