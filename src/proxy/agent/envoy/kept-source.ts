import { createAdsServer, startGrpcServer } from "../../../ads/index.ts";
import { Cell, type Clock, type Logger, Metrics, type Scope } from "../../../base/index.ts";
import type { Snapshot, TypeUrl, Versioned } from "../../../proto/index.ts";
import type { KeptConfiguration } from "../kept-state.ts";

/**
 * Tells Envoy what was kept, on a Unix socket that only this user can open, for as long as the scope is open: an Envoy
 * that starts while the control plane is away begins with that. When the scope closes, Envoy goes back to asking the
 * control plane.
 */
export async function startKeptSource(
  options: { readonly path: string; readonly kept: KeptConfiguration },
  deps: { readonly clock: Clock; readonly log: Logger },
  scope: Scope,
): Promise<void> {
  const { path, kept } = options;
  const log = deps.log.child({ part: "kept" });
  const snapshot = new Cell(snapshotOf(kept));
  // Its streams are not the control plane's, and do not count as such.
  const server = createAdsServer(
    { ...deps, log, metrics: new Metrics(), authenticate: () => ({ ok: true }), watch: () => snapshot },
    scope,
  );
  await startGrpcServer(
    {
      listen: { path },
      security: { kind: "plaintext" },
      services: [server.serve({ requireCertificate: false })],
      log,
    },
    scope,
  );
}

function snapshotOf({ resources }: KeptConfiguration): Snapshot {
  const byType = new Map<TypeUrl, Map<string, Versioned>>();
  for (const { type, name, version, bytes } of resources) {
    const ofType = byType.get(type) ?? new Map<string, Versioned>();
    byType.set(type, ofType.set(name, { name, version, bytes, origins: [] }));
  }
  return byType;
}
