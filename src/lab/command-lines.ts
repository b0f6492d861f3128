import { dirname, join } from "node:path";
import { programFile } from "../base/index.ts";

// The one place where the lab says how the mesh's programs are started. Another data plane is another `proxyLine`.

/** `isthmus` of this same package. */
function isthmus(...args: readonly string[]): readonly string[] {
  return [process.execPath, programFile("cli", "main.js"), ...args];
}

export interface ControlPlaneLine {
  readonly cluster: string;
  readonly configs: readonly string[];
  readonly cacerts: string;
  readonly listen: string;
  /** Whether discovery without TLS is served on this network's loopback. */
  readonly plaintext: boolean;
  readonly dns: string;
  readonly dnsUpstream: readonly string[];
  readonly tokensJwks: string;
  readonly admin: string;
  readonly workloadCertTtl: string | undefined;
  readonly logLevel: string;
}

export function controlPlaneLine(options: ControlPlaneLine): readonly string[] {
  return isthmus(
    "controlplane",
    "--cluster",
    options.cluster,
    ...options.configs.flatMap((dir) => ["--config", dir]),
    "--cacerts",
    options.cacerts,
    "--listen",
    options.listen,
    ...(options.plaintext ? [] : ["--plaintext", "off"]),
    "--tokens-jwks",
    options.tokensJwks,
    "--dns",
    options.dns,
    ...options.dnsUpstream.flatMap((upstream) => ["--dns-upstream", upstream]),
    "--admin",
    `unix:${options.admin}`,
    "--trust-domain",
    "cluster.local",
    "--demo",
    ...(options.workloadCertTtl ? ["--workload-cert-ttl", options.workloadCertTtl] : []),
    "--log-level",
    options.logLevel,
  );
}

export interface ProxyLine {
  readonly type: "sidecar" | "router";
  readonly nodeIp: string;
  readonly pod: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly cluster: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly discovery: string;
  readonly rootCert: string;
  readonly token: string;
  /** A folder of the pod's own, gone with it, for a proxy that is started again. */
  readonly state: string;
  readonly admin: string;
  /** The Envoy to run in place of the embedded proxy. */
  readonly envoy: string | undefined;
  /** Workers of the proxy; 0 for one a core. */
  readonly concurrency: number | undefined;
  readonly networkView: string | undefined;
  readonly interception: "REDIRECT" | "NONE";
  /** Ranges that are captured whoever connects to them: there the proxy must not go itself. */
  readonly captured: readonly string[];
  /** Only without redirection: the port of the lab's listener to the application's own. */
  readonly appPorts: Readonly<Record<string, number>> | undefined;
  readonly explicitPort: number | undefined;
  /** Only with an Envoy beside an explicit port. */
  readonly envoyExplicitPort: number | undefined;
  readonly dnsListen: string | undefined;
  readonly dnsUpstream: readonly string[];
  readonly adminPort: number | undefined;
  readonly logLevel: string;
}

export function proxyLine(options: ProxyLine): readonly string[] {
  const labels = Object.entries(options.labels).map(([key, value]) => `${key}=${value}`);
  // As many of Envoy's threads as of the lab's machine's cores would be many in many pods.
  const { envoy, concurrency = envoy === undefined ? 1 : 2 } = options;
  return isthmus(
    ...(envoy === undefined
      ? ["proxy"]
      : ["agent", "--envoy", envoy, "--run-dir", join(dirname(options.admin), "run")]),
    "--concurrency",
    String(concurrency),
    "--type",
    options.type,
    "--node-ip",
    options.nodeIp,
    "--pod",
    options.pod,
    "--namespace",
    options.namespace,
    "--service-account",
    options.serviceAccount,
    "--cluster",
    options.cluster,
    ...(labels.length > 0 ? ["--labels", labels.join(",")] : []),
    "--discovery",
    options.discovery,
    "--root-cert",
    options.rootCert,
    "--token",
    options.token,
    "--state",
    options.state,
    "--admin",
    `unix:${options.admin}`,
    "--admin-port",
    options.adminPort === undefined ? "off" : String(options.adminPort),
    ...(options.networkView ? ["--network-view", options.networkView] : []),
    "--interception",
    options.interception,
    ...(envoy === undefined && options.captured.length > 0 ? ["--captured", options.captured.join(",")] : []),
    ...(options.appPorts ? ["--app-ports", JSON.stringify(options.appPorts)] : []),
    ...(options.explicitPort === undefined ? [] : ["--explicit-port", String(options.explicitPort)]),
    ...(options.envoyExplicitPort === undefined ? [] : ["--envoy-explicit-port", String(options.envoyExplicitPort)]),
    ...(options.dnsListen ? ["--dns-listen", options.dnsListen] : []),
    ...(options.dnsListen ? ["--dns-search", searchDomains(options.namespace).join(",")] : []),
    ...(options.dnsUpstream.length > 0 ? ["--dns-upstream", options.dnsUpstream.join(",")] : []),
    "--log-level",
    options.logLevel,
  );
}

/** Where a pod's short names are looked up, in this order. */
export function searchDomains(namespace: string): readonly string[] {
  return [`${namespace}.svc.cluster.local`, "svc.cluster.local", "cluster.local", "global"];
}

/** The small resolver that stands for the Internet's: it knows the gateways' host names, and nothing else. */
export function resolverLine(options: { readonly listen: string; readonly table: string }): readonly string[] {
  return [process.execPath, programFile("lab", "resolver-main.js"), options.listen, options.table];
}
