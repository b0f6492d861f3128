import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createAdsServer, startGrpcServer } from "../../../ads/index.ts";
import { Cell, type Clock, type Logger, type Metrics, type Scope } from "../../../base/index.ts";
import { SecretSchema } from "../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { type Snapshot, typeUrls, type Versioned } from "../../../proto/index.ts";
import type { Secret, Secrets } from "../../config/secret.ts";
import { type FileSecrets, isFileSecret } from "../file-secrets.ts";

/** What the agent hands out of its own. Other names are asked for in vain, whoever told the proxy to. */
const offered: readonly string[] = ["default", "ROOTCA"];

/**
 * Hands the certificate and the roots to the proxy beside it, what is in the files that it names, and each new one when it
 * comes, on a Unix socket that only this user can open. That is all the proof of who asks, and no key leaves the machine.
 */
export async function startSecretService(
  options: { readonly path: string; readonly secrets: Cell<Secrets>; readonly files: FileSecrets },
  deps: { readonly clock: Clock; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<void> {
  const { path, secrets, files } = options;
  const { log } = deps;
  const now = () => snapshotOf(secrets.value, files.current.value);
  const snapshot = new Cell(now());
  for (const changing of [secrets, files.current]) scope.defer(changing.subscribe(() => snapshot.set(now())));
  const asked = new Map<object, Set<string>>();
  const wanted = () => files.want(new Set([...asked.values()].flatMap((names) => [...names])));
  const server = createAdsServer(
    {
      ...deps,
      authenticate: () => ({ ok: true }),
      watch: (_node, _caller, stream) => {
        stream.defer(() => {
          // At its end a stream asks for nothing more; another may ask for the same files.
          if (asked.delete(stream)) void wanted();
        });
        return {
          get value() {
            return snapshot.value;
          },
          subscribe: (notify) => snapshot.subscribe(notify),
          asked: async (_type, names) => {
            const own = names.filter(isFileSecret);
            if (own.length === 0) return;
            asked.set(stream, new Set([...(asked.get(stream) ?? []), ...own].slice(0, mostFiles)));
            await wanted();
          },
        };
      },
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

/** Files that one stream may have looked at, all the time. */
const mostFiles = 1_000;

function snapshotOf(secrets: Secrets, files: Secrets): Snapshot {
  const resources = new Map<string, Versioned>();
  for (const name of offered) {
    const secret = secrets.get(name);
    if (secret) resources.set(name, encodeSecret(name, secret));
  }
  for (const [name, secret] of files) resources.set(name, encodeSecret(name, secret));
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
          : {
              case: "validationContext",
              value: { trustedCa: source(secret.roots), ...(secret.crl ? { crl: source(secret.crl) } : {}) },
            },
    }),
  );
  return { name, version: createHash("sha256").update(bytes).digest("hex").slice(0, 16), bytes, origins: [] };
}
