import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Scope } from "../../../src/base/index.ts";
import { type Ran, type RunOptions, run } from "../../e2e/isthmus.ts";
import {
  apiServerIp,
  apiServerPort,
  type ClusterPlace,
  coreDnsManifests,
  outsideAddresses,
  startTestNetwork,
  startTestNodes,
  type TestNetwork,
  type TestNodes,
} from "../node/index.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { kubeconfigText } from "./kubeconfig.ts";
import { coreDnsProgram, findMachinery, type Machinery } from "./machinery.ts";

/** Clusters with all that belongs to them but a mesh. */
export interface Ground {
  readonly folder: string;
  /** Contexts named as the clusters, both an administrator's. */
  readonly kubeconfig: string;
  readonly planes: ReadonlyMap<string, ControlPlane>;
  readonly network: TestNetwork;
  readonly nodes: TestNodes;
  readonly machinery: Machinery;
  /** Runs a command between the clusters, as somebody at a machine of their own would, in this repository's folder. */
  run(argv: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Ends everything, and removes the folder unless it is told to keep it. */
  stop(): Promise<void>;
}

/** Two clusters unless named otherwise, each with its own control plane, node and CoreDNS. */
export async function startGround(
  options: { readonly clusters?: readonly string[]; readonly dns?: boolean; readonly envoy?: string } = {},
): Promise<Ground> {
  const { clusters = ["cluster1", "cluster2"], dns = true } = options;
  const machinery = findMachinery(process.env);
  if ("missing" in machinery) throw new Error(`there is no ${machinery.missing.join(", ")}`);
  const coreDns = coreDnsProgram(process.env);
  if (dns && coreDns === undefined) throw new Error("there is no CoreDNS");
  const scope = new Scope();
  const folder = mkdtempSync(join(tmpdir(), "isthmus-kubernetes-"));
  scope.defer(() => {
    if (!process.env["ISTHMUS_KEEP"]) rmSync(folder, { recursive: true, force: true });
  });
  try {
    const network = await startTestNetwork({ clusters }, scope);
    const planes = await Promise.all(
      network.clusters.map(async (place) => [place.name, await planeAt(place, { machinery, folder, scope })] as const),
    );
    const kubeconfig = join(folder, "kubeconfig");
    const contexts = planes.map(([name, plane], at) => plane.contextAt(network.clusters[at]!.server, name));
    writeFileSync(kubeconfig, kubeconfigText(contexts), { mode: 0o600 });
    const nodes = await startTestNodes(
      {
        network,
        kubeconfig,
        folder: join(folder, "nodes"),
        ...(coreDns ? { images: { "coredns/coredns": [coreDns] } } : {}),
        ...(options.envoy ? { envoy: options.envoy } : {}),
      },
      scope,
    );
    const ground: Ground = {
      folder,
      kubeconfig,
      planes: new Map(planes),
      network,
      nodes,
      machinery,
      run: ([...argv], { env = {}, ...rest } = {}) => {
        const [program, ...args] = network.enter(argv, process.cwd());
        const path = `${dirname(machinery.kubectl[0]!)}:${env["PATH"] ?? process.env["PATH"] ?? ""}`;
        return run(program!, args, { ...rest, env: { KUBECONFIG: kubeconfig, ...env, PATH: path } });
      },
      stop: () => scope.close(),
    };
    if (dns) await Promise.all(planes.map(([, plane]) => installCoreDns(plane)));
    return ground;
  } catch (caught) {
    await scope.close();
    throw caught;
  }
}

async function planeAt(
  place: ClusterPlace,
  { machinery, folder, scope }: { machinery: Machinery; folder: string; scope: Scope },
): Promise<ControlPlane> {
  const own = mkdtempSync(join(folder, `${place.name}-`));
  const plane = await startControlPlane({
    name: place.name,
    machinery,
    folder: own,
    place: {
      enter: place.atNode([]),
      listen: apiServerIp,
      port: apiServerPort,
      advertise: apiServerIp,
      etcdPorts: [2379, 2380],
    },
    names: [outsideAddresses(place.index).node],
    scheduler: false,
  });
  scope.defer(() => plane.stop());
  return plane;
}

async function installCoreDns(plane: ControlPlane): Promise<void> {
  const list = { apiVersion: "v1", kind: "List", items: coreDnsManifests({ version: "1.12.4" }) };
  const applied = await plane.kubectl(["apply", "-f", "-"], JSON.stringify(list));
  if (applied.code !== 0) throw new Error(`CoreDNS of ${plane.name}: ${applied.stderr}`);
  const there = await plane.kubectl([
    ...["rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=180s"],
  ]);
  if (there.code !== 0) throw new Error(`CoreDNS of ${plane.name} does not come up: ${there.stdout}${there.stderr}`);
}
