import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { Failure, packageFile } from "../../base/index.ts";
import {
  type DataPlane,
  dataPlanes,
  type LabCluster,
  type LabMode,
  type LabStatus,
  labApply,
  labDelete,
  labDown,
  labExec,
  labLogs,
  labModes,
  labNames,
  labStatus,
  labUp,
  progressText,
} from "../../lab/index.ts";
import { wholeNumber, workersCount } from "../flags.ts";
import { exitCodes, printLine, table } from "../output.ts";
import { interruptible, progressLine } from "../progress.ts";

/** The example that ships with the package: `sleep` in cluster1, `httpbin` in cluster2. */
const exampleFolder = packageFile("samples", "demo");

/** `isthmus lab …`: clusters on this machine. */
export function labCommand(done: (code: number) => void): Command {
  const lab = new Command("lab").description("clusters on this machine, as real processes");
  const named = (command: Command) => command.option("--name <lab>", "name of the lab", "lab");

  named(lab.command("up"))
    .description("bring a lab up and leave it running")
    .option("-f, --folder <dir>", "a folder with a folder of manifests per cluster", exampleFolder)
    .option("--explicit", "loopback and explicit proxying (--mode explicit)")
    .addOption(new Option("--data-plane <which>", "what runs in the pods").choices(dataPlanes).default("embedded"))
    .addOption(new Option("--mode <mode>", "how pods are kept apart; chosen by itself when absent").choices(labModes))
    .option("--egress-gateway <cluster...>", "clusters that get an egress gateway as well")
    .option("--concurrency <workers>", "of each proxy, where its pod's annotation says nothing", workersCount)
    .option("--workload-cert-ttl <duration>", "life of workload certificates, such as 24h or 30s")
    .addOption(new Option("--log-level <level>", "of all its processes").choices(["error", "warn", "info", "debug"]))
    .action((options: UpOptions) =>
      interruptible(async (signal) => {
        const progress = progressLine();
        const mode = options.explicit ? "explicit" : options.mode;
        const status = await labUp({
          name: options.name,
          clusters: clustersIn(options.folder, options.egressGateway ?? []),
          life: "detached",
          signal,
          onProgress: (news) => {
            if (news.kind === "waiting") progress.waiting(news.text);
            else progress.write(progressText(news));
          },
          ...(mode ? { mode } : {}),
          dataPlane: options.dataPlane,
          ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
          ...(options.workloadCertTtl ? { workloadCertTtl: options.workloadCertTtl } : {}),
          ...(options.logLevel ? { logLevel: options.logLevel } : {}),
        });
        progress.write("");
        printStatus(status);
      }),
    );

  named(lab.command("apply <cluster>"))
    .description("create or change objects, as kubectl apply does")
    .requiredOption("-f, --filename <file...>", "manifest files or folders; - is standard input")
    .option("-n, --namespace <namespace>", "for objects that name none")
    .action(async (cluster: string, options: { name: string; filename: string[]; namespace?: string }) => {
      const { name, filename, namespace } = options;
      const lines = await labApply({ lab: name, cluster, files: filename, ...(namespace ? { namespace } : {}) });
      for (const line of lines) printLine(line);
    });

  named(lab.command("delete <cluster> [objects...]"))
    .description("delete objects: by files, or as KIND NAME or KIND/NAME")
    .option("-f, --filename <file...>", "manifest files or folders; - is standard input")
    .option("-n, --namespace <namespace>", "of the objects")
    .action(
      async (cluster: string, words: string[], options: { name: string; filename?: string[]; namespace?: string }) => {
        const { name, filename, namespace } = options;
        const lines = await labDelete({
          lab: name,
          cluster,
          objects: objectsFrom(words),
          ...(filename ? { files: filename } : {}),
          ...(namespace ? { namespace } : {}),
        });
        for (const line of lines) printLine(line);
      },
    );

  named(lab.command("exec <cluster> <workload> <command...>"))
    .description("run a command inside a pod: lab exec cluster1 sleep -- curl -I httpbin.bar.global:8000/headers")
    .option("-n, --namespace <namespace>", "of the workload, where the name alone does not tell")
    .option("-c, --container <container>", "which container")
    .action(async (cluster: string, workload: string, command: string[], options: TargetOptions) => {
      done(await labExec({ ...target(cluster, workload, options), command: withoutDashes(command) }));
    });
  named(lab.command("logs <cluster> <workload>"))
    .description("the log of a container: the application's, istio-proxy's, or of the workload controlplane")
    .option("-n, --namespace <namespace>", "of the workload")
    .option("-c, --container <container>", "which container")
    .option("-f, --follow", "go on with new lines")
    .option("--tail <lines>", "only the last lines", wholeNumber)
    .action((cluster: string, workload: string, options: TargetOptions & { follow?: boolean; tail?: number }) =>
      interruptible((signal) =>
        labLogs({
          ...target(cluster, workload, options),
          signal,
          onLine: printLine,
          ...(options.follow ? { follow: true } : {}),
          ...(options.tail === undefined ? {} : { tail: options.tail }),
        }),
      ),
    );

  named(lab.command("status"))
    .description("clusters, control planes, pods, and what is wrong; exit code 1 when anything is not ready")
    .option("-o, --output <format>", "json, or a table when absent")
    .action(async (options: { name: string; output?: string }) => {
      const status = await labStatus({ lab: options.name });
      if (options.output === "json") printLine(JSON.stringify(status, null, 2));
      else printStatus(status);
      const good = status.phase === "up" && status.clusters.every((cluster) => cluster.ready);
      done(good ? exitCodes.good : exitCodes.wrong);
    });

  lab
    .command("list")
    .description("the labs that run")
    .action(async () => {
      for (const name of await labNames()) printLine(name);
    });

  named(lab.command("down"))
    .description("take a lab down; twice is fine")
    .action(async (options: { name: string }) => {
      printLine(`lab "${options.name}": ${await labDown({ lab: options.name })}`);
    });

  return lab;
}

interface UpOptions {
  readonly name: string;
  readonly folder: string;
  readonly explicit?: boolean;
  readonly mode?: LabMode;
  readonly egressGateway?: string[];
  readonly dataPlane: DataPlane;
  readonly concurrency?: number;
  readonly workloadCertTtl?: string;
  readonly logLevel?: "error" | "warn" | "info" | "debug";
}

interface TargetOptions {
  readonly name: string;
  readonly namespace?: string;
  readonly container?: string;
}

function target(cluster: string, workload: string, { name, namespace, container }: TargetOptions) {
  return { lab: name, cluster, workload, ...(namespace ? { namespace } : {}), ...(container ? { container } : {}) };
}

/** A folder per cluster; the folder's name is the cluster's. */
function clustersIn(folder: string, withEgress: readonly string[]): LabCluster[] {
  let names: string[];
  try {
    names = readdirSync(folder)
      .filter((name) => !name.startsWith(".") && statSync(join(folder, name)).isDirectory())
      .sort();
  } catch (cause) {
    throw new Failure("input/folder", `cannot read the lab's folder "${folder}": ${(cause as Error).message}`, {
      cause,
    });
  }
  if (names.length === 0) {
    throw new Failure("input/folder", `no clusters in "${folder}"`, {
      hint: "give each cluster a folder of manifests",
    });
  }
  const unknown = withEgress.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    throw new Failure(
      "input/cluster",
      `no cluster "${unknown.join('", "')}" in "${folder}"; there is ${names.join(", ")}`,
    );
  }
  return names.map((name) => ({ name, folders: [join(folder, name)], egressGateway: withEgress.includes(name) }));
}

/** `KIND NAME NAME…`, or `KIND/NAME` each. */
function objectsFrom(words: readonly string[]): { kind: string; name: string }[] {
  if (words.length === 0) return [];
  if (words.every((word) => word.includes("/"))) {
    return words.map((word) => ({ kind: word.slice(0, word.indexOf("/")), name: word.slice(word.indexOf("/") + 1) }));
  }
  const [kind, ...names] = words;
  if (names.length === 0) throw new Failure("input/object", `which ${kind}?`, { hint: "KIND NAME, or KIND/NAME" });
  return names.map((name) => ({ kind: kind!, name }));
}

function withoutDashes(command: readonly string[]): string[] {
  return command[0] === "--" ? command.slice(1) : [...command];
}

function printStatus(status: LabStatus): void {
  printLine(`lab "${status.name}": ${status.phase}, mode ${status.mode} (${status.reason})`);
  for (const { name, gateway, controlPlane, pods, problems } of status.clusters) {
    printLine();
    // On loopback no address but the machine's is the gateway's own.
    const ways = status.mode === "explicit" ? [] : [`${gateway.address}:15443`, `${gateway.hostname}:15443`];
    printLine(`${name}: gateway ${[...ways, `${gateway.nodeAddress}:${gateway.nodePort}`].join(", ")}`);
    const row = (columns: {
      readonly namespace: string;
      readonly name: string;
      readonly ready: boolean;
      readonly phase: string;
      readonly restarts: number;
      readonly ip: string;
      readonly message?: string;
    }) => [
      columns.namespace,
      columns.name,
      columns.ready ? "yes" : "no",
      columns.phase,
      String(columns.restarts),
      columns.ip,
      (columns.message ?? "").replaceAll(/\s+/g, " ").slice(0, 300),
    ];
    const rows = [
      row({
        ...controlPlane,
        namespace: "isthmus-system",
        name: "controlplane",
        phase: controlPlane.ready ? "Running" : "Pending",
        ip: controlPlane.address,
      }),
      ...pods.map(row),
    ];
    printLine(table(["NAMESPACE", "POD", "READY", "PHASE", "RESTARTS", "IP", ""], rows));
    for (const problem of problems) printLine(`! ${problem}`);
  }
}
