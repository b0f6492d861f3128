import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { Command } from "commander";
import { Failure, Scope, silentLogger, systemClock } from "../../base/index.ts";
import { buildMesh, defaultMeshSettings } from "../../model/index.ts";
import { NodeSchema } from "../../proto/gen/envoy/config/core/v3/base_pb.js";
import { resourceJson, type Snapshot, typeUrls } from "../../proto/index.ts";
import { formatViolation } from "../../resources/index.ts";
import { ResourceStore, startFolderSource } from "../../sources/index.ts";
import { readNode, snapshotFor } from "../../xds/index.ts";
import { printLine } from "../output.ts";

interface Flags {
  readonly config: string[];
  readonly node: string;
  readonly metadata?: string;
  readonly cluster: string;
  readonly trustDomain: string;
  readonly clusterDomain: string;
}

/** `isthmus xds dump`: what a control plane with these folders would tell this node, without one. */
export function xdsCommand(): Command {
  const xds = new Command("xds").description("look at what the control plane tells proxies");
  xds
    .command("dump")
    .description("print, as JSON, all that a proxy would be told from folders of manifests")
    .requiredOption("--config <dir...>", "folders of manifests; of an object in several the last counts")
    .requiredOption("--node <id>", "who asks: sidecar~IP~POD.NAMESPACE~DOMAIN, or router~…")
    .option("--metadata <json>", "what the node says of itself beside that, as an object")
    .option("--cluster <name>", "name of the cluster", "cluster1")
    .option("--trust-domain <name>", "of the mesh", defaultMeshSettings.trustDomain)
    .option("--cluster-domain <name>", "of the cluster's own services", defaultMeshSettings.clusterDomain)
    .action(async (flags: Flags) => {
      printLine(JSON.stringify(plain(await snapshotOf(flags)), null, 2));
    });
  return xds;
}

async function snapshotOf(flags: Flags): Promise<Snapshot> {
  const { cluster, trustDomain, clusterDomain } = flags;
  const metadata = flags.metadata === undefined ? {} : readMetadata(flags.metadata);
  const read = readNode(create(NodeSchema, { id: flags.node, metadata }));
  if (!read.ok) throw new Failure("usage/node", `--node: ${read.reason}`);
  const store = new ResourceStore();
  const scope = new Scope();
  try {
    for (const [precedence, dir] of flags.config.entries()) {
      const source = { name: `${precedence}`, dir, cluster, store, clock: systemClock, log: silentLogger, precedence };
      await startFolderSource(source, scope);
    }
    const { byKind, problems } = store.view.value;
    for (const problem of problems) process.stderr.write(`${formatViolation(problem)}\n`);
    const mesh = buildMesh({
      view: byKind,
      settings: { ...defaultMeshSettings, cluster, trustDomain, clusterDomain },
    });
    return snapshotFor(mesh, read.node);
  } finally {
    await scope.close();
  }
}

function readMetadata(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Failure("usage/metadata", `--metadata: not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new Failure("usage/metadata", `--metadata: "${text}" is no object`);
}

/** Type, by its short name, then resource. Secrets are never shown; who proves nothing is not even told them. */
function plain(snapshot: Snapshot): JsonValue {
  return Object.fromEntries(
    Object.entries(typeUrls).flatMap(([short, type]) => {
      const resources = snapshot.get(type);
      if (!resources || resources.size === 0 || type === typeUrls.secret) return [];
      const named = [...resources].map(([name, { bytes }]) => [name, resourceJson(type, bytes)] as const);
      return [[short, Object.fromEntries(named)]];
    }),
  );
}
