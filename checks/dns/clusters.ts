import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Scope, systemClock } from "../../src/base/index.ts";
import { createKubeClient, loadAccess, ObjectApi } from "../../src/kube/index.ts";
import { findMachinery } from "../kubernetes/ground/index.ts";
import { type Coredns, freePort, writeWhole } from "./coredns.ts";

const root = new URL("../..", import.meta.url).pathname;

/** Whether this machine has what an API server takes. */
export function hasMachinery(): boolean {
  return !("missing" in findMachinery(process.env));
}

export interface Ground {
  readonly kubeconfig: string;
  api(context: string): Promise<ObjectApi>;
  /** The program as a user calls it. */
  isthmus(...args: string[]): Promise<{ readonly code: number; readonly output: string }>;
  kubectl(context: string, args: readonly string[], input?: string): Promise<string>;
  stop(): Promise<void>;
}

/** Two real API servers without controllers. */
export async function startClusters(): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), "isthmus-dns-"));
  const kubeconfig = join(folder, "kubeconfig");
  const up = spawn(
    "node",
    ["checks/kubernetes/ground/up.mjs", "--no-controllers", "--clusters", "2", "--kubeconfig", kubeconfig],
    { cwd: root },
  );
  let said = "";
  const gone = new Promise<void>((resolve) => up.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    for (const stream of [up.stdout, up.stderr]) {
      stream.on("data", (chunk) => {
        said += chunk;
        if (said.includes("export KUBECONFIG=")) resolve();
      });
    }
    up.once("exit", () => {
      rmSync(folder, { recursive: true, force: true });
      reject(new Error(`the clusters did not come up: ${said}`));
    });
  });
  const scope = new Scope();
  const ran = (program: string, args: readonly string[], input?: string) =>
    new Promise<{ code: number; output: string }>((resolve) => {
      const env = { ...process.env, KUBECONFIG: kubeconfig };
      const child = execFile(program, [...args], { cwd: root, env }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? 1) : 0, output: stdout + stderr }),
      );
      child.stdin?.end(input);
    });
  return {
    kubeconfig,
    async api(context) {
      const access = await loadAccess({ kind: "kubeconfig", files: kubeconfig, context });
      const client = createKubeClient({ access, clock: systemClock, env: process.env, userAgent: "checks" }, scope);
      return new ObjectApi({ client, fieldManager: "checks", clock: systemClock, random: Math.random });
    },
    isthmus: (...args) => ran("node", ["--import", "./checks/kubernetes/typescript.mjs", "src/cli/main.ts", ...args]),
    async kubectl(context, args, input) {
      const { code, output } = await ran("kubectl", ["--context", context, ...args], input);
      if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${output}`);
      return output;
    },
    async stop() {
      await scope.close();
      up.kill("SIGTERM");
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** An address of this machine that an API server's proxy may go to: not a loopback one. */
export function ownAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === "IPv4" && !one.internal)?.address;
}

export interface ClusterWithDns {
  readonly port: number;
  readonly corefile: string;
  stop(): Promise<void>;
}

/**
 * The DNS of a cluster: its objects in the API server, and a real CoreDNS whose files are kept as a kubelet keeps them,
 * from the ConfigMaps.
 */
export async function startClusterDns(
  ground: Ground,
  { context, binary, custom }: { readonly context: string; readonly binary: Coredns; readonly custom: boolean },
): Promise<ClusterWithDns> {
  const [port, metrics] = [await freePort(), await freePort()];
  const address = ownAddress()!;
  const corefile = `.:${port} {
    errors
    hosts {
        10.96.0.1 kubernetes.default.svc.cluster.local
        fallthrough
    }
    prometheus ${address}:${metrics}
    cache 30
    reload 2s 1s
}
${custom ? "import custom/*.server\n" : ""}`;
  const api = await ground.api(context);
  const labels = { "k8s-app": "kube-dns" };
  // CoreDNS has its paths in the hash that it shows, so the pod's are those of this machine.
  const folder = mkdtempSync(join(tmpdir(), "isthmus-kubelet-"));
  const mounts = [
    { name: "config", mountPath: folder },
    { name: "custom", mountPath: `${folder}/custom` },
  ];
  const volumes = [
    { name: "config", configMap: { name: "coredns", items: [{ key: "Corefile", path: "Corefile" }] } },
    { name: "custom", configMap: { name: "coredns-custom", optional: true } },
  ];
  const image = `registry.example/coredns:v${binary.name}`;
  const container = { name: "coredns", image, args: ["-conf", `${folder}/Corefile`], volumeMounts: mounts };
  const metadata = { name: "coredns", namespace: "kube-system", labels };
  const objects = [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "isthmus-system" } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: "kube-system" } },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "coredns", namespace: "kube-system" },
      data: { Corefile: corefile },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [container], volumes } },
      },
    },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { ...metadata, name: "coredns-1" },
      spec: { containers: [{ name: "coredns", image }], automountServiceAccountToken: false },
    },
  ];
  await ground.kubectl(
    context,
    ["apply", "-f", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
  );
  const status = JSON.stringify({ status: { phase: "Running", podIP: address, podIPs: [{ ip: address }] } });
  await ground.kubectl(context, [
    "-n",
    "kube-system",
    "patch",
    "pod",
    "coredns-1",
    "--subresource=status",
    "--type=merge",
    "-p",
    status,
  ]);

  const file = join(folder, "Corefile");
  mkdirSync(join(folder, "custom"));
  const sync = async () => {
    const read = (name: string) =>
      api.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "kube-system" } });
    const [main, extra] = [await read("coredns"), await read("coredns-custom")];
    const wanted = new Map([[file, (main?.["data"] as { Corefile: string } | undefined)?.Corefile ?? ""]]);
    for (const [key, text] of Object.entries((extra?.["data"] ?? {}) as Record<string, string>))
      wanted.set(join(folder, "custom", key), text);
    for (const [path, text] of wanted) writeWhole(path, text);
    for (const name of readdirSync(join(folder, "custom"))) {
      if (!wanted.has(join(folder, "custom", name))) rmSync(join(folder, "custom", name));
    }
  };
  await sync();
  let child: ChildProcess | undefined = spawn(binary.file, ["-conf", file], { cwd: dirname(file), stdio: "ignore" });
  const gone = new Promise<void>((resolve) => child?.once("exit", () => resolve()));
  let syncing = true;
  const loop = (async () => {
    while (syncing) {
      await sync().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  })();
  return {
    port,
    corefile,
    async stop() {
      syncing = false;
      await loop;
      child?.kill("SIGKILL");
      child = undefined;
      await gone;
      if (existsSync(folder)) rmSync(folder, { recursive: true });
    },
  };
}
