import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createAdsServer, startGrpcServer } from "../../../ads/index.ts";
import { Cell, type Clock, type Logger, type Metrics, type Scope } from "../../../base/index.ts";
import { SecretSchema } from "../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type Snapshot, typeUrls, type Versioned } from "../../../proto/index.ts";
import type { Secret, Secrets } from "../../config/secret.ts";

/** What the agent hands out. Other names are asked for in vain, whoever told the proxy to. */
const offered: readonly string[] = ["default", "ROOTCA"];

/**
 * Hands the certificate and the roots to the proxy beside it, and each new one when it comes, on a Unix socket that only
 * this user can open. That is all the proof of who asks, and the key never leaves the machine.
 */
export async function startSecretService(
  options: { readonly path: string; readonly secrets: Cell<Secrets> },
  deps: { readonly clock: Clock; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<void> {
  const { path, secrets } = options;
  const { log } = deps;
  const snapshot = new Cell(snapshotOf(secrets.value));
  scope.defer(secrets.subscribe((changed) => snapshot.set(snapshotOf(changed))));
  const server = createAdsServer(
    {
      ...deps,
      authenticate: () => ({ ok: true }),
      watch: () => snapshot,
      // A proxy opens a stream for each name.
      limits: { maxStreamsPerNode: 1_000, maxStreams: 2_000 },
    },
    scope,
  );
  await startGrpcServer(
    {
      listen: { path },
      security: { kind: "plaintext" },
      services: [server.serveSecrets()],
      log,
      limits: { maxStreamsPerConnection: 2_000 },
    },
    scope,
  );
}

function snapshotOf(secrets: Secrets): Snapshot {
  const resources = new Map<string, Versioned>();
  for (const name of offered) {
    const secret = secrets.get(name);
    if (secret) resources.set(name, encodeSecret(name, secret));
  }
  return new Map([[typeUrls.secret, resources]]);
}

function encodeSecret(name: string, secret: Secret): Versioned {
  const source = (text: string) => ({ specifier: { case: "inlineBytes" as const, value: Buffer.from(text, "utf8") } });
  const bytes = toBinary(
    SecretSchema,
    create(SecretSchema, {
      name,
      type:
        secret.kind === "certificate"
          ? {
              case: "tlsCertificate",
              value: { certificateChain: source(secret.chain), privateKey: source(secret.key) },
            }
          : { case: "validationContext", value: { trustedCa: source(secret.roots) } },
    }),
  );
  return { name, version: createHash("sha256").update(bytes).digest("hex").slice(0, 16), bytes, origins: [] };
}
