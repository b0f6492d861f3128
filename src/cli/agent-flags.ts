import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { Failure, type LogLevel, logLevels, packageVersion } from "../base/index.ts";
import { parseResolvConf } from "../dns/index.ts";
import { type AgentConfig, type PodServers, readAppProbers } from "../proxy/index.ts";
import { type Ip, isPortNumber, type Labels, parseHostname, parseIp } from "../values/index.ts";
import { parseDownwardMap } from "./downward-map.ts";
import { adminAddress, hostPort, identityOf, portNumber, socketAddress } from "./flags.ts";

// The options that stand for a workload's agent, whichever proxy is beside it.

export interface AgentFlags {
  readonly type: "sidecar" | "router";
  readonly nodeIp: string;
  readonly pod: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly cluster: string;
  readonly labels: string;
  readonly labelsFile?: string;
  readonly discovery: string;
  readonly serverName: string;
  readonly rootCert: string;
  readonly token: string;
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly admin?: string;
  readonly adminPort: string;
  readonly status?: string;
  readonly health?: string;
  readonly network?: string;
  readonly networkView?: string;
  readonly interception: "REDIRECT" | "NONE";
  readonly appPorts?: string;
  readonly explicitPort?: string;
  readonly dnsListen?: string;
  readonly dnsUpstream?: string;
  readonly dnsSearch?: string;
  readonly state?: string;
  readonly drain: string;
  readonly logLevel: LogLevel;
}

/** Adds them to a command. */
export function withAgentOptions(command: Command): Command {
  return command
    .addOption(new Option("--type <type>", "what it is").choices(["sidecar", "router"]).default("sidecar"))
    .requiredOption("--node-ip <ip>", "address of the pod")
    .requiredOption("--pod <name>", "name of the pod")
    .requiredOption("--namespace <name>", "of the pod")
    .requiredOption("--service-account <name>", "of the pod: who it is")
    .requiredOption("--cluster <name>", "name of the cluster")
    .option("--labels <k=v,…>", "of the pod", "")
    .option(
      "--labels-file <file>",
      "the same as Kubernetes' downward API writes it; what --labels says stands above it",
    )
    .requiredOption("--discovery <host:port>", "the control plane")
    .option("--server-name <name>", "that the control plane's certificate must have", "isthmus.isthmus-system.svc")
    .requiredOption("--root-cert <file>", "the mesh's root certificate")
    .requiredOption("--token <file>", "what proves who the workload is, until it has a certificate")
    .option("--trust-domain <name>", "of the mesh", "cluster.local")
    .option("--cluster-domain <name>", "of the cluster's own services", "cluster.local")
    .option("--admin <address>", "unix:PATH or ip:port, for health and metrics")
    .option("--admin-port <port>", "the same on 127.0.0.1, or off", "15000")
    .option("--status <ip:port>", "readiness, metrics and the application's probes, for who asks from outside the pod")
    .option("--health <ip:port>", "readiness alone, for the same")
    .option("--network <name>", "network of the pod")
    .option("--network-view <names>", "networks whose endpoints it wants to see instead of the usual ones")
    .addOption(
      new Option("--interception <mode>", "how connections reach it").choices(["REDIRECT", "NONE"]).default("REDIRECT"),
    )
    .option("--app-ports <json>", "without interception: listening port to application port")
    .option("--explicit-port <port>", "without interception: where applications use it as HTTP or SOCKS5 proxy")
    .option("--dns-listen <ip:port>", "answer the workload's DNS here")
    .option("--dns-upstream <ip[:port],…>", "where names that are not the mesh's are asked; as in resolv.conf")
    .option("--dns-search <domains>", "search domains of the workload, with commas between; as in resolv.conf")
    .option(
      "--state <dir>",
      "keep what it was told and its certificate here, to start again while the control plane is away; it holds the key, " +
        "so give a memory file system of the pod's own, such as an emptyDir with medium Memory",
    )
    .option("--drain <duration>", "how long running calls may take when stopping", "10s")
    .addOption(new Option("--log-level <level>").choices(logLevels).default("info"));
}

/** Options to what every agent needs. Throws `usage/…` that names the option. */
export function agentConfigFrom(flags: AgentFlags): Omit<AgentConfig, "captured"> {
  const { namespace, serviceAccount, trustDomain } = flags;
  const ip = parseIp(flags.nodeIp);
  if (!ip) throw new Failure("usage/address", `--node-ip: "${flags.nodeIp}" is no IP address`);
  const clusterDomain = parseHostname(flags.clusterDomain);
  if (!clusterDomain || clusterDomain.startsWith("*"))
    throw new Failure("usage/name", `--cluster-domain: "${flags.clusterDomain}" is no DNS name`);
  return {
    node: {
      type: flags.type,
      ip,
      pod: flags.pod,
      namespace,
      serviceAccount,
      cluster: flags.cluster,
      clusterDomain,
      labels: { ...labelsFrom(flags.labelsFile), ...parseLabels(flags.labels) },
      network: flags.network,
      networkView: flags.networkView,
      interception: flags.interception,
      appPorts: flags.appPorts === undefined ? undefined : parsePorts(flags.appPorts),
      explicitPort: flags.explicitPort === undefined ? undefined : portNumber(flags.explicitPort, "--explicit-port"),
      version: packageVersion(),
    },
    identity: {
      discovery: hostPort(flags.discovery, "--discovery"),
      serverName: flags.serverName,
      rootCertFile: flags.rootCert,
      tokenFile: flags.token,
      clusterId: flags.cluster,
      expected: identityOf({ trustDomain, namespace, serviceAccount }),
    },
    admin: [
      ...(flags.admin ? [adminAddress(flags.admin, "--admin")] : []),
      ...(flags.adminPort === "off"
        ? []
        : [{ host: "127.0.0.1" as Ip, port: portNumber(flags.adminPort, "--admin-port") }]),
    ],
    ...(flags.state === undefined ? {} : { stateDir: stateFolder(flags.state) }),
    podServers: podServersFrom(flags),
    dns: flags.dnsListen ? dnsFrom(flags, flags.dnsListen) : undefined,
  };
}

type Dns = NonNullable<AgentConfig["dns"]>;

/** What no option says is as it is for every program in the pod. */
function dnsFrom({ dnsUpstream, dnsSearch }: AgentFlags, listenAt: string): Dns {
  const listen = socketAddress(listenAt, 15053, "--dns-listen");
  const conf = dnsUpstream === undefined || dnsSearch === undefined ? resolvConf() : undefined;
  // On loopback it is we who are asked, by way of capture or at once, and we would ask ourselves.
  const servers = (conf?.nameservers ?? []).filter((ip) => !ip.startsWith("127.") && ip !== "::1" && ip !== listen.ip);
  return {
    listen,
    forwardTo:
      dnsUpstream === undefined
        ? servers.map((ip) => ({ ip, port: 53 }))
        : list(dnsUpstream).map((text) => socketAddress(text, 53, "--dns-upstream")),
    searches: dnsSearch === undefined ? (conf?.searches ?? []) : list(dnsSearch),
  };
}

function resolvConf(): ReturnType<typeof parseResolvConf> | undefined {
  try {
    return parseResolvConf(readFileSync("/etc/resolv.conf", "utf8"));
  } catch {
    return undefined;
  }
}

function podServersFrom(flags: AgentFlags): PodServers {
  const address = (text: string, port: number, option: string) => {
    const { ip: host, port: at } = socketAddress(text, port, option);
    return { host, port: at };
  };
  const written = process.env["ISTIO_KUBE_APP_PROBERS"];
  const probers = written ? readAppProbers(written) : new Map();
  if ("problems" in probers) {
    throw new Failure("usage/probers", `ISTIO_KUBE_APP_PROBERS: ${probers.problems.join("; ")}`, {
      hint: "injection writes it; was it changed by hand?",
    });
  }
  return {
    probers,
    ...(flags.status === undefined ? {} : { status: address(flags.status, 15020, "--status") }),
    ...(flags.health === undefined ? {} : { health: address(flags.health, 15021, "--health") }),
  };
}

/** Labels as the downward API writes them into a file. Throws `file/unreadable` and `usage/labels`. */
function labelsFrom(file: string | undefined): Labels {
  if (file === undefined) return {};
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new Failure("file/unreadable", `--labels-file: cannot read "${file}": ${(cause as Error).message}`, {
      cause,
    });
  }
  const labels = parseDownwardMap(text);
  if (typeof labels !== "string") return labels;
  throw new Failure("usage/labels", `--labels-file: "${file}": ${labels}`, { hint: 'a line is KEY="VALUE"' });
}

function stateFolder(text: string): string {
  if (text !== "") return resolve(text);
  throw new Failure("usage/folder", "--state: no folder is named", { hint: "leave it out to keep nothing" });
}

export function list(text: string | undefined): string[] {
  return (text ?? "").split(",").filter(Boolean);
}

function parseLabels(text: string): Labels {
  return Object.fromEntries(
    list(text).map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new Failure("usage/labels", `--labels: "${pair}" is not KEY=VALUE`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function parsePorts(text: string): Readonly<Record<string, number>> {
  let ports: unknown;
  try {
    ports = JSON.parse(text);
  } catch (cause) {
    throw new Failure("usage/ports", `--app-ports: not JSON: ${(cause as Error).message}`, { cause });
  }
  // An empty object is fine: an application need not listen.
  const entries =
    typeof ports === "object" && ports !== null && !Array.isArray(ports) ? Object.entries(ports) : undefined;
  if (!entries || entries.some(([from, to]) => !isPortNumber(Number(from)) || !isPortNumber(to))) {
    throw new Failure("usage/ports", `--app-ports: "${text}" is no object of listening port to application port`);
  }
  return ports as Readonly<Record<string, number>>;
}
