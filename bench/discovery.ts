import { join } from "node:path";
import { createAdsServer, startGrpcServer } from "../src/ads/index.ts";
import { Cell, Metrics, type Scope, silentLogger, systemClock } from "../src/base/index.ts";
import type { Snapshot } from "../src/proto/index.ts";
import { startSecretService } from "../src/proxy/agent/envoy/sds.ts";
import { startFileSecrets } from "../src/proxy/agent/file-secrets.ts";
import type { Secrets } from "../src/proxy/index.ts";
import { type Issued, secretsOf } from "./issued.ts";

/** The control plane of a benchmark: to each node what `snapshots` has for its id. Gives its address. */
export async function serveSnapshots(snapshots: ReadonlyMap<string, Snapshot>, scope: Scope): Promise<string> {
  const ads = createAdsServer(
    {
      authenticate: (_, { id }) =>
        snapshots.has(id) ? { ok: true } : { ok: false, reason: `no node "${id}" in this benchmark` },
      watch: ({ id }) => new Cell(snapshots.get(id)!),
      clock: systemClock,
      log: silentLogger,
      metrics: new Metrics(),
    },
    scope,
  );
  const { port } = await startGrpcServer(
    {
      listen: { ip: "127.0.0.1", port: 0 },
      security: { kind: "plaintext" },
      services: [ads.serve({ requireCertificate: false })],
      log: silentLogger,
    },
    scope,
  );
  return `127.0.0.1:${port}`;
}

/** Hands a certificate out as an agent does to the Envoy beside it. Gives the path of the socket. */
export async function serveSecrets(
  { dir, name, issued }: { readonly dir: string; readonly name: string; readonly issued: Issued },
  scope: Scope,
): Promise<string> {
  const path = join(dir, `${name}.sock`);
  const secrets = new Cell<Secrets>(secretsOf(issued));
  const files = startFileSecrets({ clock: systemClock, log: silentLogger }, scope);
  const deps = { clock: systemClock, log: silentLogger, metrics: new Metrics() };
  await startSecretService({ path, secrets, files }, deps, scope);
  return path;
}
