import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { Failure, type LogLevel, logLevels } from "../base/index.ts";
import type { AgentConfig } from "../proxy/index.ts";
import { type Ip, isPortNumber, type Labels, parseIp } from "../values/index.ts";
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
  readonly discovery: string;
  readonly serverName: string;
  readonly rootCert: string;
  readonly token: string;
  readonly trustDomain: string;
  readonly admin?: string;
  readonly adminPort: string;
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
    .requiredOption("--discovery <host:port>", "the control plane")
    .option("--server-name <name>", "that the control plane's certificate must have", "isthmus.isthmus-system.svc")
    .requiredOption("--root-cert <file>", "the mesh's root certificate")
    .requiredOption("--token <file>", "what proves who the workload is, until it has a certificate")
    .option("--trust-domain <name>", "of the mesh", "cluster.local")
    .option("--admin <address>", "unix:PATH or ip:port, for health and metrics")
    .option("--admin-port <port>", "the same on 127.0.0.1, or off", "15000")
    .option("--network <name>", "network of the pod")
    .option("--network-view <names>", "networks whose endpoints it wants to see instead of the usual ones")
    .addOption(
      new Option("--interception <mode>", "how connections reach it").choices(["REDIRECT", "NONE"]).default("REDIRECT"),
    )
    .option("--app-ports <json>", "without interception: listening port to application port")
    .option("--explicit-port <port>", "without interception: where applications use it as HTTP or SOCKS5 proxy")
    .option("--dns-listen <ip:port>", "answer the workload's DNS here")
    .option("--dns-upstream <ip[:port],…>", "where names that are not the mesh's are asked")
    .option("--dns-search <domains>", "search domains of the workload, with commas between")
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
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return {
    node: {
      type: flags.type,
      ip,
      pod: flags.pod,
      namespace,
      serviceAccount,
      cluster: flags.cluster,
      labels: parseLabels(flags.labels),
      network: flags.network,
      networkView: flags.networkView,
      interception: flags.interception,
      appPorts: flags.appPorts === undefined ? undefined : parsePorts(flags.appPorts),
      explicitPort: flags.explicitPort === undefined ? undefined : portNumber(flags.explicitPort, "--explicit-port"),
      version,
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
    dns: flags.dnsListen
      ? {
          listen: socketAddress(flags.dnsListen, 15053, "--dns-listen"),
          forwardTo: list(flags.dnsUpstream).map((text) => socketAddress(text, 53, "--dns-upstream")),
          searches: list(flags.dnsSearch),
        }
      : undefined,
  };
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
