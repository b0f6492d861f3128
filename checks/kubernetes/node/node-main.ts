// The test nodes of all clusters: `node-main.ts SETTINGS`. Runs in the enclosure, at 172.30.0.254. Says `ready` on standard
// output; takes a command a line on standard input, and ends when that does.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createLogger, explain, Scope, systemClock } from "../../../src/base/index.ts";
import { loadAccess } from "../../../src/kube/index.ts";
import { outsideIp } from "./addresses.ts";
import { ClusterNode } from "./cluster-node.ts";
import { startOutsideDns } from "./outside-dns.ts";

/** What `startTestNodes` writes down for this program. */
export interface NodeSettings {
  readonly clusters: ReadonlyArray<{
    readonly name: string;
    readonly index: number;
    readonly holders: { readonly router: number; readonly node: number };
  }>;
  readonly kubeconfig: string;
  readonly folder: string;
  readonly root: string;
  readonly images: Readonly<Record<string, readonly string[]>>;
  readonly envoy?: string;
}

/** A command to the nodes. */
export interface NodeCommand {
  readonly id: number;
  readonly op: "signal";
  readonly cluster: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly signal: NodeJS.Signals;
}

/** In the enclosure this is a file system of its own, in memory. */
const podFolder = "/mnt";

const settings = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as NodeSettings;
const log = createLogger({ level: "info", name: "node" });
const scope = new Scope();
const nodes = new Map<string, ClusterNode>();
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function start(): Promise<void> {
  const names = await startOutsideDns(outsideIp, scope);
  for (const { name, index, holders } of settings.clusters) {
    const access = await loadAccess({ kind: "kubeconfig", files: settings.kubeconfig, context: name });
    const node = new ClusterNode(
      {
        cluster: name,
        index,
        holders,
        access,
        table: { images: settings.images, envoy: settings.envoy },
        root: settings.root,
        logs: settings.folder,
        folder: podFolder,
        proberProgram: join(import.meta.dirname, "prober-main.ts"),
        clock: systemClock,
        random: Math.random,
        log: log.child({ cluster: name }),
        onLoadBalancers: (all) => names.set(name, all),
      },
      scope,
    );
    nodes.set(name, node);
  }
  await Promise.all([...nodes.values()].map((node) => node.start()));
  say({ kind: "ready" });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { id, cluster, namespace, pod, container, signal } = JSON.parse(line) as NodeCommand;
  const done = nodes.get(cluster)?.find(namespace, pod, container)?.signal(signal) ?? false;
  say({ kind: "done", id, done });
});
lines.on("close", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));
process.on("unhandledRejection", (caught) =>
  log.error({ error: explain(caught), err: caught }, "BUG: nobody caught this"),
);
start().catch((caught) => {
  say({ kind: "failed", message: explain(caught) });
  process.exit(1);
});
