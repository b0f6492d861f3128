import { readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import {
  askServerVersion,
  type InjectionSettings,
  readServerVersion,
  type ServerVersion,
  settingsOf,
} from "../../admission/index.ts";
import { Failure, Scope, systemClock } from "../../base/index.ts";
import { createKubeClient, loadAccess } from "../../kube/index.ts";
import { formatViolation } from "../../resources/index.ts";
import { injectText, joinTexts } from "../inject-text.ts";
import { readManifests } from "../manifest-texts.ts";

interface Flags {
  readonly filename: string[];
  readonly output?: string;
  readonly settings?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly revision: string;
  readonly systemNamespace: string;
  readonly namespace: string;
  readonly kubernetesVersion?: string;
}

interface Known {
  readonly settings: InjectionSettings;
  readonly serverVersion: ServerVersion | undefined;
}

/** `isthmus kube-inject`: what the webhook would do, done to files. */
export function kubeInjectCommand(): Command {
  return new Command("kube-inject")
    .description("put a proxy into the pods that manifests make; all else is passed on as it is")
    .requiredOption("-f, --filename <file...>", "files or folders; - is standard input")
    .option("-o, --output <file>", "where to write; standard output unless given")
    .option("--settings <file>", "the settings of injection, as JSON; else those of the cluster are taken")
    .option("--kubeconfig <file>", "of the cluster; $KUBECONFIG or ~/.kube/config unless given")
    .option("--context <name>", "of the kubeconfig; its current one unless given")
    .option("--revision <name>", "of the control plane whose settings count", "default")
    .option("--system-namespace <name>", "where its settings are", "isthmus-system")
    .option("-n, --namespace <namespace>", "for objects that name none", "default")
    .option("--kubernetes-version <major.minor>", "of the cluster, with --settings: from 1.29 sidecars are native")
    .action(async (flags: Flags) => {
      const { texts, violations, unreadable } = await readManifests(flags.filename);
      if (unreadable[0]) throw unreadable[0];
      if (violations.length > 0) throw wrong(violations.map(formatViolation));
      const known = await settingsFor(flags);
      const problems: string[] = [];
      const warnings: string[] = [];
      const written = texts.map(({ file, text }) => {
        const note = (to: string[]) => (line: string) => void to.push(`${file}: ${line}`);
        return injectText(text, {
          ...known,
          namespace: flags.namespace,
          problem: note(problems),
          warning: note(warnings),
        });
      });
      if (problems.length > 0) throw wrong(problems);
      for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
      const all = joinTexts(written);
      if (flags.output === undefined || flags.output === "-") process.stdout.write(all);
      else writeOut(flags.output, all);
    });
}

function wrong(lines: readonly string[]): Failure {
  return new Failure("input/manifest", lines.join("\n"), { hint: "nothing was written" });
}

function writeOut(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw new Failure("file/unwritable", `cannot write "${file}": ${(cause as Error).message}`, { cause });
  }
}

async function settingsFor(flags: Flags): Promise<Known> {
  const asksCluster = flags.kubeconfig !== undefined || flags.context !== undefined;
  if (flags.settings !== undefined) {
    if (asksCluster)
      throw new Failure("usage/source", "--settings is one place, --kubeconfig and --context are another");
    const [major, minor] = (flags.kubernetesVersion ?? "").split(".");
    const serverVersion = readServerVersion({ major, minor });
    if (flags.kubernetesVersion !== undefined && !serverVersion)
      throw new Failure("usage/name", `--kubernetes-version: "${flags.kubernetesVersion}" is no version`, {
        hint: "write 1.33",
      });
    return { settings: settingsOf(readSettings(flags.settings), flags.settings), serverVersion };
  }
  const scope = new Scope();
  try {
    const files = flags.kubeconfig ?? process.env["KUBECONFIG"] ?? join(homedir(), ".kube/config");
    const context = flags.context === undefined ? {} : { context: flags.context };
    const access = await loadAccess({ kind: "kubeconfig", files, ...context });
    const options = { access, clock: systemClock, env: process.env, userAgent: "isthmus-kube-inject" };
    const client = createKubeClient(options, scope);
    const name = flags.revision === "default" ? "isthmus-injection" : `isthmus-injection-${flags.revision}`;
    const where = `ConfigMap ${flags.systemNamespace}/${name}`;
    const path = `/api/v1/namespaces/${flags.systemNamespace}/configmaps/${name}`;
    const map = await client.json<{ data?: Record<string, string> }>({ path }).catch((caught: unknown) => {
      const { code, message } = Failure.from(caught);
      if (code !== "kube/not-found") throw caught;
      throw new Failure("injection/settings", `${where} is not there: ${message}`, {
        cause: caught,
        hint: "is isthmus installed in this cluster, in this revision? Else give --settings",
      });
    });
    return {
      settings: settingsOf(map.data?.["injection.json"] ?? "", where),
      serverVersion: await askServerVersion(client),
    };
  } finally {
    await scope.close();
  }
}

function readSettings(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new Failure("file/unreadable", `cannot read "${file}": ${(cause as Error).message}`, { cause });
  }
}
