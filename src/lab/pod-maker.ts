import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../base/index.ts";
import { ipv4FromNumber, ipv4ToNumber, parseIp } from "../values/index.ts";
import type { ClusterParts } from "./cluster-parts.ts";
import { type ProxyLine, proxyLine } from "./command-lines.ts";
import { type GatewayRole, gatewayPortName, gatewayPorts, gatewayRole } from "./gateway-role.ts";
import { type LoopbackPorts, loopback } from "./loopback.ts";
import { addressPlan, type PodNetwork, serviceCidr, virtualCidr } from "./network.ts";
import { LabPod } from "./pod.ts";
import { concurrencyOf } from "./proxy-settings.ts";
import { podName, portList, type WantedPod } from "./workloads.ts";

/** Makes pods from wishes: a name, an address, a place in the network, and the command line of the proxy. */
export class PodMaker {
  readonly #parts: ClusterParts;
  readonly #ports: LoopbackPorts;
  readonly #usedIps = new Set<string>();
  #made = 0;

  constructor(parts: ClusterParts, ports: LoopbackPorts) {
    this.#parts = parts;
    this.#ports = ports;
    this.#usedIps.add(addressPlan(parts.index).controlPlane);
  }

  /** A pod that is not started yet. Its address is its own until `free`. */
  async make(wanted: WantedPod, onChange: () => void): Promise<LabPod> {
    const parts = this.#parts;
    const plan = addressPlan(parts.index);
    const explicit = parts.mode === "explicit";
    const name = podName(wanted, parts.random);
    const role = gatewayRole(wanted);
    const ip = this.#freeIp();
    try {
      // Numbered, because a pod's name can be too long for a socket's path.
      const folder = join(parts.podsFolder, `${parts.index}-${++this.#made}`);
      mkdirSync(folder, { recursive: true, mode: 0o755 });
      const declared = wanted.containers.flatMap(({ ports }) => ports.map(({ containerPort }) => containerPort));
      const listened = role === undefined ? [...new Set(declared)] : gatewayPorts;
      if (explicit) {
        await this.#ports.reserve([
          `${name}/explicit`,
          ...(parts.envoy === undefined ? [] : [`${name}/behind-explicit`]),
          ...(role ? [] : listened.flatMap((port) => [`${name}/in/${port}`, `${name}/app/${port}`])),
        ]);
      }
      const token = await parts.mintToken(wanted.namespace, wanted.serviceAccount);
      const network = await parts.network.addPod({
        name,
        namespace: wanted.namespace,
        folder,
        ip,
        nameserver: plan.controlPlane,
        injected: wanted.injected,
        excludeInboundPorts: portList(wanted.annotations["traffic.sidecar.istio.io/excludeInboundPorts"]),
        excludeOutboundPorts: portList(wanted.annotations["traffic.sidecar.istio.io/excludeOutboundPorts"]),
        ...(role === undefined ? {} : { wanIp: role === "ingress" ? plan.gateway : plan.egress }),
      });
      const pod = { wanted, name, role, folder, listened, network };
      return new LabPod({
        wanted,
        name,
        cluster: parts.cluster.name,
        network,
        folder,
        adminSocket: adminSocket(folder),
        logFile: (container) => join(parts.logs, `${name}.${container}.log`),
        proxy: wanted.injected || role !== undefined ? proxyLine(this.#proxy(pod)) : undefined,
        appPort: (port) => (explicit && listened.includes(port) ? this.#ports.get(`${name}/app/${port}`) : port),
        appEnv: explicit ? this.#explicitEnv(pod) : {},
        secrets: { token, rootCert: parts.rootCert },
        proxyIsOther: parts.mode === "netns",
        clock: parts.clock,
        random: parts.random,
        log: parts.log,
        onChange,
      });
    } catch (caught) {
      this.free(ip);
      throw caught;
    }
  }

  free(ip: string): void {
    this.#usedIps.delete(ip);
  }

  #proxy({ wanted, name, role, folder, listened, network }: PodPlan): ProxyLine {
    const parts = this.#parts;
    const plan = addressPlan(parts.index);
    const explicit = parts.mode === "explicit";
    // A gateway has no application behind it: its second number is the port that its configuration names.
    const appPorts = explicit
      ? Object.fromEntries(
          listened.map((port) => [
            String(this.#inPort(name, role, port)),
            role ? port : this.#ports.get(`${name}/app/${port}`),
          ]),
        )
      : {};
    return {
      type: role ? "router" : "sidecar",
      nodeIp: network.ip,
      pod: name,
      namespace: wanted.namespace,
      serviceAccount: wanted.serviceAccount,
      cluster: parts.cluster.name,
      labels: wanted.labels,
      discovery: explicit ? `${loopback}:${this.#ports.get("control")}` : `${plan.controlPlane}:15012`,
      rootCert: join(folder, "root-cert.pem"),
      token: join(folder, "token"),
      state: join(folder, "state"),
      admin: adminSocket(folder),
      envoy: parts.envoy,
      concurrency: concurrencyOf(wanted.annotations) ?? parts.concurrency,
      networkView: role === "egress" ? "external" : undefined,
      interception: explicit ? "NONE" : "REDIRECT",
      captured: parts.mode === "userns" && wanted.injected ? [virtualCidr, serviceCidr] : [],
      appPorts: Object.keys(appPorts).length > 0 ? appPorts : undefined,
      explicitPort: role || !explicit ? undefined : this.#ports.get(`${name}/explicit`),
      envoyExplicitPort:
        role || !explicit || parts.envoy === undefined ? undefined : this.#ports.get(`${name}/behind-explicit`),
      dnsListen: explicit || role ? undefined : "127.0.0.1:15053",
      dnsUpstream: explicit ? [] : [plan.controlPlane, plan.router],
      adminPort: explicit ? undefined : 15000,
      logLevel: parts.logLevel,
    };
  }

  /** How an application finds the mesh where nothing captures what it sends. */
  #explicitEnv({ name, wanted }: PodPlan): Readonly<Record<string, string>> {
    if (!wanted.injected) return { HOST: loopback };
    const port = this.#ports.get(`${name}/explicit`);
    const http = `http://${loopback}:${port}`;
    const socks = `socks5h://${loopback}:${port}`;
    return {
      HOST: loopback,
      HTTP_PROXY: http,
      http_proxy: http,
      HTTPS_PROXY: http,
      https_proxy: http,
      ALL_PROXY: socks,
      all_proxy: socks,
    };
  }

  /** Where callers reach a port of the pod: another number only where pods share one address. */
  reachedAt(pod: LabPod, port: number): number {
    if (this.#parts.mode !== "explicit") return port;
    const { name, proxy, wanted } = pod.parts;
    const role = gatewayRole(wanted);
    if (!role && !this.#ports.has(`${name}/app/${port}`)) return port; // Nothing of the lab's listens there.
    return proxy ? this.#inPort(name, role, port) : this.#ports.get(`${name}/app/${port}`);
  }

  #inPort(name: string, role: GatewayRole | undefined, port: number): number {
    const { loopback: shared, index } = this.#parts;
    if (!role || !shared) return this.#ports.get(`${name}/in/${port}`);
    const key = gatewayPortName(index, role, port);
    return shared.ports.has(key) ? shared.ports.get(key) : port;
  }

  #freeIp(): string {
    const base = ipv4ToNumber(parseIp("10.244.0.0")!);
    for (let n = addressPlan(this.#parts.index).firstPod; n < 65_000; n++) {
      const ip = ipv4FromNumber(base + n);
      if (this.#usedIps.has(ip)) continue;
      this.#usedIps.add(ip);
      return ip;
    }
    throw new Failure("lab/addresses", `cluster "${this.#parts.cluster.name}" has no pod address left`);
  }
}

interface PodPlan {
  readonly wanted: WantedPod;
  readonly name: string;
  readonly role: GatewayRole | undefined;
  readonly folder: string;
  /** Ports at which callers come. */
  readonly listened: readonly number[];
  readonly network: PodNetwork;
}

function adminSocket(folder: string): string {
  return join(folder, "admin.sock");
}
