import { randomBytes } from "node:crypto";
import { homedir, hostname } from "node:os";
import { join } from "node:path";
import { Command, Option } from "commander";
import { createLogger, Failure, type LogLevel, logLevels, Metrics, type Scope, systemClock } from "../../base/index.ts";
import { type ControlConfig, defaultRevision, startControlPlane } from "../../control/index.ts";
import { type KubeAccess, loadAccess } from "../../kube/index.ts";
import { defaultMeshSettings } from "../../model/index.ts";
import { type Ip, parseHostname, parseIp } from "../../values/index.ts";
import { parseDuration } from "../duration.ts";
import { adminAddress, identityOf, portNumber, socketAddress } from "../flags.ts";
import { runUntilSignalled } from "../service.ts";

interface Flags {
  readonly cluster: string;
  readonly config?: string[];
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly inCluster: boolean;
  readonly cacerts: string;
  readonly listen: string;
  readonly plaintext: string;
  readonly tokensJwks?: string;
  readonly dns?: string;
  readonly dnsUpstream?: string[];
  readonly admin: string;
  readonly health?: string;
  readonly webhooks?: string;
  readonly injection?: string;
  readonly revision: string;
  readonly pod?: string;
  readonly secretNamespaces?: string[];
  readonly readOnly: boolean;
  readonly linger?: string;
  readonly trustDomain: string;
  readonly systemNamespace: string;
  readonly clusterDomain: string;
  readonly outboundPolicy: "ALLOW_ANY" | "REGISTRY_ONLY";
  readonly workloadCertTtl?: string;
  readonly demo: boolean;
  readonly drain: string;
  readonly logLevel: LogLevel;
}

/** `isthmus controlplane`: discovery, certificates and names for one cluster. */
export function controlplaneCommand(): Command {
  return new Command("controlplane")
    .description("serve discovery (xDS), certificates and names for one cluster")
    .requiredOption("--cluster <name>", "name of this cluster")
    .option("--config <dir...>", "folders of manifests, watched; of an object in several the last one counts")
    .option("--kubeconfig <file>", "read this API server's objects as well; $KUBECONFIG where only --context is given")
    .option("--context <name>", "of the kubeconfig; its current one unless given")
    .option("--in-cluster", "read the API server of the cluster in which this runs", false)
    .requiredOption("--cacerts <dir>", "folder of ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem")
    .requiredOption("--listen <ip[:port]>", "discovery and certificates over TLS; port 15012 unless given")
    .option("--plaintext <port>", "discovery without TLS on 127.0.0.1, or off", "15010")
    .option("--tokens-jwks <file>", "public keys of who mints the tokens that workloads show")
    .option("--dns <ip:port>", "answer names of the mesh here")
    .option("--dns-upstream <address...>", "where other names are asked")
    .option("--admin <address>", "unix:PATH or ip:port", "127.0.0.1:15014")
    .option("--health <ip:port>", "GET /ready, /live and /metrics, and nothing else, for probes and Prometheus")
    .option("--webhooks <ip:port>", "Kubernetes' admission webhooks /inject and /validate, over TLS")
    .option("--injection <file>", "settings of the injector; read again when they change")
    .option("--revision <name>", "which of several control planes in one cluster this is", defaultRevision)
    .option("--pod <name>", "who this replica is among its like; host name and a random part unless given")
    .option(
      "--secret-namespaces <name...>",
      'where gateways\' Secrets are read, "*" for everywhere; the system namespace unless given',
    )
    .option("--read-only", "never write into the cluster: no roots of trust, webhook bundles, statuses", false)
    .option("--linger <duration>", "how long to go on after a signal while others take over, or off; 5s in a pod")
    .option("--trust-domain <name>", "of all clusters", defaultMeshSettings.trustDomain)
    .option("--system-namespace <name>", "of the control plane and the gateways", defaultMeshSettings.systemNamespace)
    .option("--cluster-domain <name>", "of this cluster's own services", defaultMeshSettings.clusterDomain)
    .addOption(
      new Option("--outbound-policy <policy>", "calls for hosts that nobody declared")
        .choices(["ALLOW_ANY", "REGISTRY_ONLY"])
        .default(defaultMeshSettings.outboundPolicy),
    )
    .option("--workload-cert-ttl <duration>", "life of workload certificates; 24h unless given")
    .option("--demo", "take certificates that a demo made, which are known to whoever saw it", false)
    .option("--drain <duration>", "how long running calls may take when stopping", "5s")
    .addOption(new Option("--log-level <level>").choices(logLevels).default("info"))
    .action(async (flags: Flags) => {
      const log = createLogger({ level: flags.logLevel, name: "controlplane" });
      const metrics = new Metrics();
      metrics.collectProcess();
      const config = await configFrom(flags);
      const lingerMs = lingerOf(flags);
      return await runUntilSignalled({ log, drainMs: parseDuration(flags.drain, "--drain") }, async (scope: Scope) => {
        const plane = await startControlPlane(config, { clock: systemClock, random: Math.random, log, metrics }, scope);
        return () => plane.retire(lingerMs);
      });
    });
}

const loopback = parseIp("127.0.0.1") as Ip;

async function configFrom(flags: Flags): Promise<ControlConfig> {
  if (!/^[A-Za-z0-9]([-A-Za-z0-9._]{0,56}[A-Za-z0-9])?$/.test(flags.cluster)) {
    throw new Failure("usage/name", `--cluster: "${flags.cluster}" cannot be a cluster's name`, {
      hint: "letters, digits, dash and dot, at most 58",
    });
  }
  if (!parseHostname(flags.clusterDomain)) {
    throw new Failure("usage/name", `--cluster-domain: "${flags.clusterDomain}" is no DNS name`);
  }
  if (!isNamespace(flags.revision)) {
    throw new Failure("usage/name", `--revision: "${flags.revision}" cannot be a revision's name`, {
      hint: "lower case letters, digits and dashes, at most 63",
    });
  }
  identityOf({ trustDomain: flags.trustDomain, namespace: flags.systemNamespace, serviceAccount: "isthmus" });
  const access = await accessFrom(flags);
  if (!access && !flags.config) {
    throw new Failure("usage/source", "there is nothing to read", {
      hint: "name a folder with --config, an API server with --kubeconfig or --context, or say --in-cluster",
    });
  }
  const secure = socketAddress(flags.listen, 15012, "--listen");
  return {
    mesh: {
      ...defaultMeshSettings,
      cluster: flags.cluster,
      trustDomain: flags.trustDomain,
      systemNamespace: flags.systemNamespace,
      clusterDomain: flags.clusterDomain,
      outboundPolicy: flags.outboundPolicy,
    },
    configDirs: flags.config ?? [],
    kubernetes: access && {
      access,
      env: process.env,
      revision: flags.revision,
      me: flags.pod ?? `${hostname()}-${randomBytes(4).toString("hex")}`,
      secretNamespaces: secretNamespaces(flags),
      writes: !flags.readOnly,
    },
    cacertsDir: flags.cacerts,
    demo: flags.demo,
    secure,
    plaintext:
      flags.plaintext === "off" ? undefined : { ip: loopback, port: portNumber(flags.plaintext, "--plaintext") },
    tokenKeysFile: flags.tokensJwks,
    dns: flags.dns
      ? {
          listen: socketAddress(flags.dns, 53, "--dns"),
          forwardTo: (flags.dnsUpstream ?? []).map((text) => socketAddress(text, 53, "--dns-upstream")),
        }
      : undefined,
    admin: adminAddress(flags.admin, "--admin"),
    health: flags.health === undefined ? undefined : socketAddress(flags.health, 15014, "--health"),
    webhooks: webhooksFrom(flags, access),
    workloadCertTtlMs: flags.workloadCertTtl ? parseDuration(flags.workloadCertTtl, "--workload-cert-ttl") : undefined,
    addresses: [loopback],
  };
}

function lingerOf({ linger, inCluster }: Flags): number {
  const wish = linger ?? (inCluster ? "5s" : "off");
  return wish === "off" ? 0 : parseDuration(wish, "--linger");
}

function secretNamespaces({ secretNamespaces: names = [], systemNamespace }: Flags): readonly string[] | undefined {
  if (names.includes("*")) return undefined;
  const wrong = names.find((name) => !isNamespace(name));
  if (wrong !== undefined) throw new Failure("usage/name", `--secret-namespaces: "${wrong}" cannot be a namespace`);
  return names.length > 0 ? [...new Set(names)] : [systemNamespace];
}

function isNamespace(text: string): boolean {
  return /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text);
}

function webhooksFrom(flags: Flags, access: KubeAccess | undefined): ControlConfig["webhooks"] {
  const { webhooks, injection } = flags;
  if (webhooks === undefined && injection === undefined) return undefined;
  if (webhooks === undefined || injection === undefined)
    throw new Failure(
      "usage/webhooks",
      "--webhooks and --injection belong together: one is of no use without the other",
    );
  if (!access)
    throw new Failure("usage/webhooks", "--webhooks answers an API server, and none is named", {
      hint: "say --in-cluster, or name one with --kubeconfig or --context",
    });
  return { listen: socketAddress(webhooks, 15017, "--webhooks"), injectionFile: injection };
}

async function accessFrom(flags: Flags): Promise<KubeAccess | undefined> {
  const { env } = process;
  const asked = flags.kubeconfig !== undefined || flags.context !== undefined;
  if (flags.inCluster) {
    if (asked) throw new Failure("usage/source", "--in-cluster is one place, --kubeconfig and --context are another");
    const { KUBERNETES_SERVICE_HOST: host = "", KUBERNETES_SERVICE_PORT: port = "" } = env;
    return await loadAccess({ kind: "in-cluster", host, port });
  }
  if (!asked) return undefined;
  const files = flags.kubeconfig ?? env["KUBECONFIG"] ?? join(homedir(), ".kube/config");
  return await loadAccess({
    kind: "kubeconfig",
    files,
    ...(flags.context === undefined ? {} : { context: flags.context }),
  });
}
