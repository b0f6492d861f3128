import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, Failure, type Logger, type Scope, sleep } from "../base/index.ts";
import {
  createIntermediate,
  createRoot,
  demoOrganization,
  jwksOf,
  makeTokenKey,
  mintToken,
  writeCacerts,
} from "../ca/index.ts";
import { Cluster } from "./cluster.ts";
import { gatewayPortName, gatewayPorts } from "./gateway-role.ts";
import { useRealHttpbin } from "./images.ts";
import { LoopbackPorts, startLoopback } from "./loopback.ts";
import { startNamespaces } from "./netns.ts";
import { addressPlan } from "./network.ts";
import { type LabRequest, serveControl } from "./protocol.ts";
import { run } from "./run.ts";
import { paths } from "./state-folder.ts";
import type { ChosenMode, LabCluster, LabProgress, LabStatus } from "./types.ts";
import { gatewayHostname, gatewayNodePort, labVariables } from "./variables.ts";
import { waitingLine } from "./waiting.ts";

/** What a lab is to be: written into its folder by who starts it, read by what runs in it. */
export interface LabPlan {
  readonly name: string;
  readonly clusters: readonly LabCluster[];
  readonly chosen: ChosenMode;
  /** The Envoy, and the clusters whose pods it stands in. */
  readonly envoy?: { readonly binary: string; readonly clusters: readonly string[] };
  readonly concurrency?: number;
  readonly workloadCertTtl?: string;
  readonly logLevel: string;
}

/** How long all pods together have to become ready. */
const comeUpMs = 120_000;
const tokenTtlMs = 24 * 3_600_000;

/**
 * A lab from its plan: the network, an authority with an intermediate for each cluster, the clusters. Resolves when
 * every pod is ready; rejects with what did not come up. `onDown` is called when somebody asks it to end.
 */
export async function startLab(
  options: {
    readonly plan: LabPlan;
    readonly folder: string;
    readonly clock: Clock;
    readonly random: () => number;
    readonly log: Logger;
    readonly onProgress: (progress: LabProgress) => void;
    readonly onDown: () => void;
  },
  scope: Scope,
): Promise<void> {
  const { plan, folder, clock, random, log, onProgress } = options;
  const files = paths(folder);
  const { mode, reason } = plan.chosen;
  const clusters: Cluster[] = [];
  let phase: LabStatus["phase"] = "starting";
  for (const dir of [files.logs, files.sockets, files.pods]) mkdirSync(dir, { recursive: true, mode: 0o755 });
  // The proxies run as another user, who must get to their own folders and to nothing else.
  chmodSync(files.pods, 0o711);

  const clusterNamed = (name: string) => {
    const found = clusters.find((cluster) => cluster.name === name);
    if (found) return found;
    throw new Failure("lab/cluster", `lab "${plan.name}" has no cluster "${name}"`, {
      hint: `it has ${plan.clusters.map((cluster) => cluster.name).join(", ")}`,
    });
  };
  const answer = async (request: LabRequest): Promise<unknown> => {
    switch (request.op) {
      case "status": {
        const state = await Promise.all(clusters.map((cluster) => cluster.status()));
        return { name: plan.name, mode, reason, stateFolder: folder, phase, clusters: state } satisfies LabStatus;
      }
      case "apply":
        return clusterNamed(request.cluster).manifests.apply(request.text, request);
      case "delete":
        return clusterNamed(request.cluster).manifests.delete(request.objects);
      case "target":
        return clusterNamed(request.cluster).place(request);
      case "crash":
        clusterNamed(request.cluster).crash({ lab: plan.name, ...request }, request.signal as NodeJS.Signals);
        return null;
      case "scale":
        clusterNamed(request.cluster).scale(request, request);
        return null;
      case "signal":
        clusterNamed(request.cluster).signal(request, request.signal as NodeJS.Signals);
        return null;
      case "settle":
        await Promise.all(clusters.map((cluster) => cluster.settle()));
        return null;
      case "targets":
        return clusterNamed(request.cluster).places(request);
      case "down":
        phase = "stopping";
        options.onDown();
        return null;
    }
  };
  await serveControl(files.control, answer, scope);

  onProgress({ kind: "step", text: "one root of trust, an intermediate for each cluster" });
  const nowMs = clock.now();
  // Marked, so that no control plane outside a demo takes what is lying about in a state folder.
  const root = createRoot({ nowMs, organization: demoOrganization });
  const keys = makeTokenKey("lab");
  useRealHttpbin((await run(["python3", "-c", "import httpbin, gunicorn"], { timeoutMs: 10_000 })).code === 0);

  onProgress({
    kind: "step",
    text: mode === "explicit" ? "loopback" : "a network for each cluster, joined at the gateways",
  });
  const network = mode === "explicit" ? startLoopback(plan.chosen) : await startNamespaces(plan.chosen, folder);
  const outsideNames = join(folder, "outside-names.json");
  const names = plan.clusters.map(({ name }, position) => [gatewayHostname(name), addressPlan(position + 1).gateway]);
  writeFileSync(outsideNames, JSON.stringify(Object.fromEntries(names)));
  const shared = mode === "explicit" ? await loopbackGateways(plan.clusters.map(({ name }) => name)) : undefined;
  let sockets = 0;
  for (const [position, cluster] of plan.clusters.entries()) {
    scope.signal.throwIfAborted();
    const own = files.cluster(cluster.name);
    const logs = join(files.logs, cluster.name);
    mkdirSync(logs, { recursive: true });
    mkdirSync(own, { recursive: true });
    const cacerts = join(own, "cacerts");
    writeCacerts(
      cacerts,
      createIntermediate({ nowMs, issuer: root, cluster: cluster.name, organization: demoOrganization }),
    );
    const tokensJwks = join(own, "tokens.jwks");
    writeFileSync(tokensJwks, jwksOf([keys]));
    clusters.push(
      new Cluster(
        {
          cluster,
          index: position + 1,
          mode,
          network: await network.addCluster(position + 1, cluster.name),
          folder: own,
          logs,
          podsFolder: files.pods,
          sockets: files.sockets,
          cacerts,
          rootCert: root["root-cert.pem"],
          tokensJwks,
          mintToken: (namespace, serviceAccount) =>
            mintToken(keys, { namespace, serviceAccount, ttlMs: tokenTtlMs, nowMs: clock.now() }),
          variables: labVariables(plan.clusters.map(({ name }) => name)),
          outsideNames,
          envoy: plan.envoy?.clusters.includes(cluster.name) ? plan.envoy.binary : undefined,
          concurrency: plan.concurrency,
          workloadCertTtl: plan.workloadCertTtl,
          logLevel: plan.logLevel,
          loopback: shared,
          nextSocket: () => join(files.sockets, `${++sockets}.sock`),
          clock,
          random,
          log,
        },
        scope,
      ),
    );
  }
  for (const cluster of clusters) onProgress({ kind: "step", cluster: cluster.name, text: "control plane" });
  await Promise.all(clusters.map((cluster) => cluster.startControlPlane(scope.signal)));
  for (const cluster of clusters) {
    for (const text of cluster.manifests.problems) onProgress({ kind: "warning", cluster: cluster.name, text });
    cluster.startPods(scope);
  }
  await allReady({ clusters, clock, signal: scope.signal, onProgress });
  phase = "up";
}

/** Ports of every gateway of a lab on loopback, and what manifests may call each. */
async function loopbackGateways(names: readonly string[]) {
  const ports = new LoopbackPorts();
  const roles = ["ingress", "egress"] as const;
  const indexes = names.map((_name, position) => position + 1);
  await ports.reserve(
    indexes.flatMap((index) => roles.flatMap((role) => gatewayPorts.map((port) => gatewayPortName(index, role, port)))),
  );
  const gateways = indexes.map((index) => ({
    known: [
      { address: addressPlan(index).gateway, port: 15443 },
      { address: gatewayHostname(names[index - 1]!), port: 15443 },
      { address: addressPlan(index).node, port: gatewayNodePort },
    ],
    port: ports.get(gatewayPortName(index, "ingress", 15443)),
  }));
  return { ports, gateways };
}

async function allReady(options: {
  readonly clusters: readonly Cluster[];
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: LabProgress) => void;
}): Promise<void> {
  const { clusters, clock, signal, onProgress } = options;
  const until = clock.monotonic() + comeUpMs;
  let told = "";
  await sleep(clock, 100, signal);
  for (;;) {
    const unready = clusters.flatMap((cluster) => cluster.unready());
    if (unready.length === 0 && clusters.every((cluster) => cluster.settled)) return;
    const hopeless = clusters.map((cluster) => cluster.hopeless()).find((why) => why !== undefined);
    if (hopeless !== undefined) throw new Failure("lab/pod", hopeless);
    if (clock.monotonic() > until) {
      const lines = unready.map(({ cluster, workload, why }) => `${cluster}: ${workload}: ${why}`);
      throw new Failure("lab/not-ready", `not ready after ${comeUpMs / 1000} s:\n${lines.join("\n")}`);
    }
    const text = waitingLine(unready);
    if (text !== told && text !== "") onProgress({ kind: "waiting", text });
    told = text;
    await sleep(clock, 100, signal);
  }
}

/** The plan from its file. */
export function readPlan(folder: string): LabPlan {
  return JSON.parse(readFileSync(paths(folder).plan, "utf8")) as LabPlan;
}
