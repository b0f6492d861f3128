import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { envoyPlaces } from "../../src/proxy/index.ts";
import { main, type Ran, type RunOptions, root, run } from "../e2e/isthmus.ts";
import { missingOf, type Requirement } from "../requirements.ts";
import type { Ground } from "./ground/ground.ts";
import { machineryMissing } from "./ground/requirements.ts";

/** Two clusters that the guide runs on, as somebody sees them who types commands. */
export interface Clusters {
  /** Our own control planes behind them; undefined for clusters that were named by ISTHMUS_KUBE_CONTEXTS. */
  readonly ground: Ground | undefined;
  /** The kubeconfig's names of cluster 1 and cluster 2. */
  readonly contexts: readonly [string, string];
  /** A folder for files; it goes with the clusters. */
  readonly folder: string;
  /**
   * Runs shell commands as they stand in the guide, in this repository's folder: `kubectl`, `isthmus`, and
   * `$CTX_CLUSTER1` and `$CTX_CLUSTER2` are what they say. The first that fails ends them.
   */
  sh(script: string, options?: RunOptions): Promise<Ran>;
  /** The same; throws, with all that was said, when it fails. Standard output without the last newline. */
  must(script: string, options?: RunOptions): Promise<string>;
  stop(): Promise<void>;
}

/** Contexts that `ISTHMUS_KUBE_CONTEXTS=a,b` names: somebody's own two clusters. */
function givenContexts(): readonly [string, string] | undefined {
  const given = process.env["ISTHMUS_KUBE_CONTEXTS"];
  if (!given) return undefined;
  const [first, second, ...more] = given.split(",");
  if (!first || !second || more.length > 0)
    throw new Error(`ISTHMUS_KUBE_CONTEXTS="${given}" does not name two contexts`);
  return [first, second];
}

export const onGivenClusters = givenContexts() !== undefined;

/** Why there are no clusters to be had here; undefined when there are. */
export function missingForClusters(...more: readonly Requirement[]): string | undefined {
  return (onGivenClusters ? undefined : machineryMissing()) ?? missingOf(more);
}

/** For tests that end API servers, or look into them. */
export function missingForGround(...more: readonly Requirement[]): string | undefined {
  if (onGivenClusters) return "needs control planes of its own, and ISTHMUS_KUBE_CONTEXTS names somebody's";
  return missingForClusters(...more);
}

/** Namespaces that tests make and delete. */
const made = ["isthmus-system", "foo", "bar", "plain", "later"];

export async function takeClusters(): Promise<Clusters> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-guide-"));
  const contexts = givenContexts() ?? (["cluster1", "cluster2"] as const);
  const ground = onGivenClusters ? undefined : await startOwn(folder);
  const bin = join(folder, "bin");
  mkdirSync(bin);
  const isthmus = join(bin, "isthmus");
  writeFileSync(isthmus, `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`);
  chmodSync(isthmus, 0o755);
  const env = {
    PATH: [bin, process.env["PATH"] ?? ""].join(":"),
    CTX_CLUSTER1: contexts[0],
    CTX_CLUSTER2: contexts[1],
    FOLDER: folder,
  };
  const sh = (script: string, options: RunOptions = {}) => {
    const argv = ["bash", "-euo", "pipefail", "-c", script];
    const all = { ...options, env: { ...env, ...options.env } };
    return ground ? ground.run(argv, all) : run(argv[0]!, argv.slice(1), all);
  };
  const clusters: Clusters = {
    ground,
    contexts,
    folder,
    sh,
    async must(script, options) {
      const ran = await sh(script, options);
      if (ran.code === 0) return ran.stdout.trimEnd();
      throw new Error(`${script.trim()}\nended with ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
    },
    async stop() {
      await ground?.stop();
      if (!process.env["ISTHMUS_KEEP"]) rmSync(folder, { recursive: true, force: true });
    },
  };
  if (!ground) for (const context of contexts) await refuseUsed(clusters, context);
  return clusters;
}

/** Somebody's cluster may hold what tests would take for their own, and delete; or what they left when they failed. */
async function refuseUsed(clusters: Clusters, context: string): Promise<void> {
  const text = await clusters.must(
    `kubectl get --context=${context} namespaces -o jsonpath='{.items[*].metadata.name}'`,
  );
  const there = text.split(" ").filter((name) => made.includes(name));
  if (there.length === 0) return;
  await clusters.stop();
  throw new Error(
    `context "${context}" has ${there.map((name) => `namespace "${name}"`).join(", ")}, which the tests make and delete; delete it, or name a cluster without`,
  );
}

async function startOwn(folder: string): Promise<Ground> {
  try {
    const { startGround } = await import("./ground/ground.ts");
    const envoy = envoyProgram();
    return await startGround(envoy ? { envoy } : {});
  } catch (caught) {
    rmSync(folder, { recursive: true, force: true });
    throw caught;
  }
}

function envoyProgram(): string | undefined {
  const { cache, setting } = envoyPlaces(process.env);
  if (setting !== undefined) return setting;
  try {
    const newest = readdirSync(cache).sort((a, b) => b.localeCompare(a, "en", { numeric: true }))[0];
    return newest === undefined ? undefined : join(cache, newest, "envoy");
  } catch {
    return undefined;
  }
}

/** Where files that the guide names are, from here. */
export const samples = join(root, "samples");
