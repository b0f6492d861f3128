import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Clock, explain, Failure, type Logger, type Scope, sleep, type Timer } from "../base/index.ts";
import type { Resource, Service } from "../resources/index.ts";
import { ipv4FromNumber, ipv4ToNumber, parseIp } from "../values/index.ts";
import { askAdmin } from "./admin-client.ts";
import { controlPlaneLine, proxyLine, resolverLine } from "./command-lines.ts";
import { lastLines } from "./follow.ts";
import { imageCommand } from "./images.ts";
import { forLoopback, type LoopbackGateway, LoopbackPorts, loopback } from "./loopback.ts";
import { Manifests, writeAtomic } from "./manifests.ts";
import { addressPlan, type ClusterNetwork } from "./network.ts";
import { LabPod, proxyContainer } from "./pod.ts";
import { profileObjects, systemNamespace } from "./profile.ts";
import { Program } from "./program.ts";
import type { TargetPlace } from "./protocol.ts";
import {
  Addresses,
  endpointSlices,
  podObject,
  podsBehind,
  type RunningPod,
  serviceObject,
  targetPort,
} from "./runtime-objects.ts";
import type { ClusterStatus, LabCluster, LabMode, LabTarget } from "./types.ts";
import { egressClusterIp, gatewayHostname, gatewayNodePort, type Variables } from "./variables.ts";
import { podName, portList, type WantedPod, wantedPods } from "./workloads.ts";

export interface ClusterParts {
  readonly cluster: LabCluster;
  /** From 1: decides its addresses between clusters. */
  readonly index: number;
  readonly mode: LabMode;
  readonly network: ClusterNetwork;
  readonly folder: string;
  readonly logs: string;
  readonly podsFolder: string;
  readonly sockets: string;
  readonly cacerts: string;
  readonly rootCert: string;
  readonly tokensJwks: string;
  /** A token for one service account of this cluster. */
  readonly mintToken: (namespace: string, serviceAccount: string) => Promise<string>;
  readonly variables: Variables;
  /** Names that the outside's DNS knows: a file of JSON, name to address. */
  readonly outsideNames: string;
  readonly workloadCertTtl: string | undefined;
  readonly logLevel: string;
  readonly nextSocket: () => string;
  /** On loopback: the ports of the gateways, known to all clusters before any starts; undefined elsewhere. */
  readonly loopback: { readonly ports: LoopbackPorts; readonly gateways: readonly LoopbackGateway[] } | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** How long news is gathered before pods and endpoints are looked at again. */
const settleMs = 20;
const tokensRenewMs = 12 * 3_600_000;

/** One cluster: its control plane, and what Kubernetes would do beside it: pods, addresses, endpoints. */
export class Cluster {
  readonly parts: ClusterParts;
  readonly manifests: Manifests;
  readonly #pods = new Map<string, LabPod>();
  readonly #addresses = new Addresses();
  readonly #usedIps = new Set<string>();
  readonly #ports = new LoopbackPorts();
  readonly #runtimeFolder: string;
  readonly #written = new Map<string, string>();
  readonly #controlSocket: string;
  #controlPlane: Program | undefined;
  #controlReady = false;
  readonly #startProblems = new Map<string, string>();
  #podsMade = 0;
  #timer: Timer | undefined;
  #busy = false;
  #again = false;
  #started = false;

  constructor(parts: ClusterParts, scope: Scope) {
    this.parts = parts;
    this.#runtimeFolder = join(parts.folder, "runtime");
    this.#controlSocket = parts.nextSocket();
    mkdirSync(this.#runtimeFolder, { recursive: true });
    this.manifests = new Manifests(
      {
        cluster: parts.cluster.name,
        folders: parts.cluster.folders,
        copyFolder: join(parts.folder, "copied"),
        appliedFolder: join(parts.folder, "applied"),
        systemFolder: join(parts.folder, "system"),
        system: profileObjects({ egressGateway: parts.cluster.egressGateway ?? false }),
        variables: parts.variables,
        rewrite: parts.loopback && ((object) => forLoopback(object, this.#gatewaysSeen())),
        clock: parts.clock,
        log: parts.log,
        onChange: () => this.#poke(),
      },
      scope,
    );
    scope.defer(() => this.#timer?.cancel());
  }

  get name(): string {
    return this.parts.cluster.name;
  }

  /** Gateways of all clusters, and the own egress gateway, whose cluster address is the same in each. */
  #gatewaysSeen(): readonly LoopbackGateway[] {
    const { loopback: shared, index } = this.parts;
    if (!shared) return [];
    const port = shared.ports.get(gatewayPortName(index, "egress", 15443));
    return [...shared.gateways, { known: [{ address: egressClusterIp, port: 15443 }], port }];
  }

  /** Starts the outside's resolver and the control plane, and resolves when that is ready to let proxies in. */
  async startControlPlane(signal: AbortSignal): Promise<void> {
    const { parts } = this;
    const { network } = parts;
    const plan = addressPlan(parts.index);
    const explicit = parts.mode === "explicit";
    if (explicit) await this.#ports.reserve(["control", "dns"]);
    const common = { clock: parts.clock, random: parts.random, log: parts.log, onChange: () => {} };
    if (!explicit) {
      new Program({
        ...common,
        name: `${this.name}/resolver`,
        logFile: join(parts.logs, "resolver.log"),
        line: () => ({
          argv: network.atRouter(resolverLine({ listen: `${plan.router}:53`, table: parts.outsideNames })),
          env: programEnv(),
        }),
      });
    }
    const place = await network.addPod({
      name: `isthmus-controlplane-${this.name}`,
      namespace: systemNamespace,
      folder: join(parts.podsFolder, "controlplane"),
      ip: plan.controlPlane,
      nameserver: plan.router,
      injected: false,
      excludeInboundPorts: [],
      excludeOutboundPorts: [],
    });
    this.#usedIps.add(plan.controlPlane);
    this.#writeRuntime();
    const line = controlPlaneLine({
      cluster: this.name,
      configs: ["system", "copied", "applied", "runtime"].map((layer) => join(parts.folder, layer)),
      cacerts: parts.cacerts,
      listen: explicit ? `${loopback}:${this.#ports.get("control")}` : plan.controlPlane,
      plaintext: !explicit,
      dns: explicit ? `${loopback}:${this.#ports.get("dns")}` : `${plan.controlPlane}:53`,
      dnsUpstream: explicit ? [] : [plan.router],
      tokensJwks: parts.tokensJwks,
      admin: this.#controlSocket,
      workloadCertTtl: parts.workloadCertTtl,
      logLevel: parts.logLevel,
    });
    this.#controlPlane = new Program({
      ...common,
      name: `${this.name}/controlplane`,
      logFile: this.#controlPlaneLog(),
      line: () => place.enter(line, "app", programEnv()),
    });
    for (;;) {
      signal.throwIfAborted();
      const answer = await askAdmin(this.#controlSocket, "/ready");
      this.#controlReady = answer.status === 200;
      if (this.#controlReady) break;
      if (this.#controlPlane.failures >= 3) {
        const state = this.#controlPlane.state;
        const why = state.phase === "waiting" ? state.why : "ended";
        const said = lastLines(this.#controlPlaneLog(), 3);
        throw new Failure("lab/control-plane", `the control plane of "${this.name}" does not start: ${why}\n${said}`);
      }
      await sleep(parts.clock, 100, signal);
    }
  }

  /** Starts pods, and from here on follows manifests. */
  startPods(scope: Scope): void {
    this.#started = true;
    this.#poke();
    this.#renewTokensLater(scope);
    this.#watchControlPlane(scope);
  }

  #watchControlPlane(scope: Scope): void {
    const look = () => {
      void askAdmin(this.#controlSocket, "/ready").then(({ status }) => {
        this.#controlReady = status === 200;
        if (!scope.closed) this.parts.clock.after(3_000, look, { background: true });
      });
    };
    look();
  }

  #renewTokensLater(scope: Scope): void {
    const timer = this.parts.clock.after(
      tokensRenewMs,
      () => {
        for (const pod of this.#pods.values()) {
          const { wanted } = pod.parts;
          this.parts
            .mintToken(wanted.namespace, wanted.serviceAccount)
            .then((token) => pod.writeSecrets(token))
            .catch((err) => this.parts.log.error({ err, pod: pod.parts.name }, "token not renewed"));
        }
        this.#renewTokensLater(scope);
      },
      { background: true },
    );
    scope.defer(() => timer.cancel());
  }

  #poke(): void {
    if (!this.#started || this.#timer) return;
    this.#timer = this.parts.clock.after(settleMs, () => {
      this.#timer = undefined;
      if (this.#busy) {
        this.#again = true;
        return;
      }
      this.#busy = true;
      this.#reconcile()
        .catch((err) => this.parts.log.error({ err, cluster: this.name }, "cluster not brought to its wish"))
        .finally(() => {
          this.#busy = false;
          if (this.#again) {
            this.#again = false;
            this.#poke();
          }
        });
    });
  }

  /** Starts what is missing, stops what is no longer wanted, and writes down what there is. */
  async #reconcile(): Promise<void> {
    const resources = [...this.manifests.resources.values()];
    const namespaces = new Map(ofKind(resources, "Namespace").map((namespace) => [namespace.metadata.name, namespace]));
    const wanted = wantedPods({
      deployments: ofKind(resources, "Deployment"),
      pods: ofKind(resources, "Pod"),
      namespaces,
    });
    const missing: WantedPod[] = [];
    const keep = new Set<LabPod>();
    for (const wish of wanted) {
      const found = [...this.#pods.values()].find(
        (pod) =>
          !keep.has(pod) &&
          !pod.terminating &&
          groupOf(pod.parts.wanted) === groupOf(wish) &&
          pod.parts.wanted.revision === wish.revision,
      );
      if (found) keep.add(found);
      else missing.push(wish);
    }
    const obsolete = [...this.#pods.values()].filter((pod) => !keep.has(pod) && !pod.terminating);
    const groupsMissing = new Set(missing.map(groupOf));
    for (const pod of obsolete) {
      const group = groupOf(pod.parts.wanted);
      const successors = [...keep].filter((other) => groupOf(other.parts.wanted) === group);
      // A replica goes when those that replace it can serve; a pod that stands alone must free its name first.
      const replaced = pod.parts.wanted.replica === undefined || !wanted.some((wish) => groupOf(wish) === group);
      if (replaced || (!groupsMissing.has(group) && successors.every((other) => other.ready))) this.#stop(pod);
    }
    for (const wish of missing) {
      if (wish.replica === undefined && this.#pods.has(`${wish.namespace}/${wish.workload}`)) continue; // Its name is not free yet.
      try {
        await this.#start(wish);
        this.#startProblems.delete(groupOf(wish));
      } catch (caught) {
        this.#startProblems.set(groupOf(wish), explain(caught));
        this.parts.log.error({ err: caught, workload: groupOf(wish) }, "pod not started");
        this.parts.clock.after(5_000, () => this.#poke(), { background: true });
      }
    }
    this.#writeRuntime();
    await this.#setForwards();
  }

  #stop(pod: LabPod): void {
    void pod
      .stop()
      .catch((err) => this.parts.log.error({ err, pod: pod.parts.name }, "pod not stopped cleanly"))
      .finally(() => {
        this.#pods.delete(`${pod.parts.wanted.namespace}/${pod.parts.name}`);
        this.#usedIps.delete(pod.parts.network.ip);
        this.#poke();
      });
  }

  async #start(wanted: WantedPod): Promise<void> {
    const { parts } = this;
    const plan = addressPlan(parts.index);
    const explicit = parts.mode === "explicit";
    const name = podName(wanted, parts.random);
    const role = gatewayRole(wanted);
    const withProxy = wanted.injected || role !== undefined;
    const ip = this.#freeIp();
    // Numbered, because a pod's name can be too long for a socket's path.
    const folder = join(parts.podsFolder, `${parts.index}-${++this.#podsMade}`);
    const socket = join(folder, "admin.sock");
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const declared = wanted.containers.flatMap(({ ports }) => ports.map(({ containerPort }) => containerPort));
    const listened = role === undefined ? [...new Set(declared)] : gatewayPorts;
    if (explicit) {
      await this.#ports.reserve([
        `${name}/explicit`,
        ...(role ? [] : listened.flatMap((port) => [`${name}/in/${port}`, `${name}/app/${port}`])),
      ]);
    }
    const wanIp = role === undefined ? {} : { wanIp: role === "ingress" ? plan.gateway : plan.egress };
    const network = await parts.network.addPod({
      name,
      namespace: wanted.namespace,
      folder,
      ip,
      nameserver: plan.controlPlane,
      injected: wanted.injected,
      excludeInboundPorts: portList(wanted.annotations["traffic.sidecar.istio.io/excludeInboundPorts"]),
      excludeOutboundPorts: portList(wanted.annotations["traffic.sidecar.istio.io/excludeOutboundPorts"]),
      ...wanIp,
    });
    const inPort = (port: number) =>
      role && parts.loopback
        ? parts.loopback.ports.get(gatewayPortName(parts.index, role, port))
        : this.#ports.get(`${name}/in/${port}`);
    // A gateway has no application behind it: its second number is the port that its configuration names.
    const appPorts = explicit
      ? Object.fromEntries(
          listened.map((port) => [String(inPort(port)), role ? port : this.#ports.get(`${name}/app/${port}`)]),
        )
      : {};
    const explicitPort = explicit ? this.#ports.get(`${name}/explicit`) : undefined;
    const mesh = `http://${loopback}:${explicitPort}`;
    const pod = new LabPod({
      wanted,
      name,
      cluster: this.name,
      network,
      folder,
      adminSocket: socket,
      logFile: (container) => join(parts.logs, `${name}.${container}.log`),
      proxy: withProxy
        ? proxyLine({
            type: role ? "router" : "sidecar",
            nodeIp: network.ip,
            pod: name,
            namespace: wanted.namespace,
            serviceAccount: wanted.serviceAccount,
            cluster: this.name,
            labels: wanted.labels,
            discovery: explicit ? `${loopback}:${this.#ports.get("control")}` : `${plan.controlPlane}:15012`,
            rootCert: join(folder, "root-cert.pem"),
            token: join(folder, "token"),
            admin: socket,
            networkView: role === "egress" ? "external" : undefined,
            interception: explicit ? "NONE" : "REDIRECT",
            appPorts: Object.keys(appPorts).length > 0 ? appPorts : undefined,
            explicitPort: role ? undefined : explicitPort,
            dnsListen: explicit || role ? undefined : "127.0.0.1:15053",
            dnsUpstream: explicit ? [] : [plan.controlPlane, plan.router],
            adminPort: explicit ? undefined : 15000,
            logLevel: parts.logLevel,
          })
        : undefined,
      appPort: (port) => (explicit && listened.includes(port) ? this.#ports.get(`${name}/app/${port}`) : port),
      appEnv:
        explicit && wanted.injected
          ? {
              HOST: loopback,
              HTTP_PROXY: mesh,
              http_proxy: mesh,
              HTTPS_PROXY: mesh,
              https_proxy: mesh,
              ALL_PROXY: `socks5h://${loopback}:${explicitPort}`,
              all_proxy: `socks5h://${loopback}:${explicitPort}`,
            }
          : explicit
            ? { HOST: loopback }
            : {},
      secrets: { token: await parts.mintToken(wanted.namespace, wanted.serviceAccount), rootCert: parts.rootCert },
      proxyIsOther: parts.mode === "netns",
      clock: parts.clock,
      random: parts.random,
      log: parts.log,
      onChange: () => this.#poke(),
    });
    this.#pods.set(`${wanted.namespace}/${name}`, pod);
    await pod.start();
  }

  #freeIp(): string {
    const base = ipv4ToNumber(parseIp("10.244.0.0")!);
    for (let n = addressPlan(this.parts.index).firstPod; n < 65_000; n++) {
      const ip = ipv4FromNumber(base + n);
      if (this.#usedIps.has(ip)) continue;
      this.#usedIps.add(ip);
      return ip;
    }
    throw new Failure("lab/addresses", `cluster "${this.name}" has no pod address left`);
  }

  #running(): readonly RunningPod[] {
    return [...this.#pods.values()]
      .map((pod) => ({ pod, parts: pod.parts }))
      .map(({ pod, parts: { wanted, network, name } }) => ({
        namespace: wanted.namespace,
        name,
        ip: network.ip,
        wanIp: network.wanIp,
        labels: wanted.labels,
        annotations: wanted.annotations,
        serviceAccount: wanted.serviceAccount,
        containers: wanted.containers,
        injected: wanted.injected,
        ready: pod.ready,
        terminating: pod.terminating,
        reachedAt: (port: number) => this.#reachedAt(pod, port),
      }));
  }

  #reachedAt(pod: LabPod, port: number): number {
    if (this.parts.mode !== "explicit") return port;
    try {
      const { name, proxy, wanted } = pod.parts;
      const role = gatewayRole(wanted);
      if (role && this.parts.loopback)
        return this.parts.loopback.ports.get(gatewayPortName(this.parts.index, role, port));
      return this.#ports.get(proxy ? `${name}/in/${port}` : `${name}/app/${port}`);
    } catch {
      return port; // Not declared by any container, so nothing of the lab's listens there.
    }
  }

  #services(): readonly Service[] {
    return ofKind([...this.manifests.resources.values()], "Service");
  }

  /** What an API server would show beside the user's objects: defaulted Services, Pods, EndpointSlices. */
  #writeRuntime(): void {
    const pods = this.#running();
    const services = this.#services();
    this.#write(
      "services",
      services.map((service) => serviceObject(service, pods, this.#addresses)),
    );
    this.#write("pods", pods.filter(({ terminating }) => !terminating).map(podObject));
    this.#write(
      "endpoints",
      services.flatMap((service) => endpointSlices(service, pods)),
    );
  }

  #write(name: string, objects: readonly object[]): void {
    const text = `${objects.map((object) => JSON.stringify(object)).join("\n---\n")}\n`;
    if (this.#written.get(name) === text) return;
    this.#written.set(name, text);
    writeAtomic(join(this.#runtimeFolder, `${name}.yaml`), text);
  }

  #forwardsNow = "";

  async #setForwards(): Promise<void> {
    if (this.parts.mode === "explicit") return;
    const pods = this.#running().filter(({ ready, terminating }) => ready && !terminating);
    const nodePorts: { port: number; to: string }[] = [];
    const services: { ip: string; port: number; protocol: "tcp" | "udp"; to: string[] }[] = [];
    for (const service of this.#services()) {
      const object = serviceObject(service, pods, this.#addresses);
      for (const port of object.spec.ports) {
        const to = podsBehind(service, pods).flatMap((pod) => {
          const number = targetPort(port.targetPort ?? port.port, pod);
          return number === undefined ? [] : [`${pod.ip}:${number}`];
        });
        const first = to[0];
        if (first === undefined || port.protocol === "SCTP") continue;
        if (port.nodePort !== undefined && port.protocol === "TCP") nodePorts.push({ port: port.nodePort, to: first });
        const ip = object.spec.clusterIP;
        if (ip && ip !== "None")
          services.push({ ip, port: port.port, protocol: port.protocol === "UDP" ? "udp" : "tcp", to });
      }
    }
    const wish = JSON.stringify({ nodePorts, services });
    if (wish === this.#forwardsNow) return;
    await this.parts.network.setForwards({ nodePorts, services });
    this.#forwardsNow = wish;
  }

  #controlPlaneLog(): string {
    return join(this.parts.logs, "controlplane.log");
  }

  /** What keeps the cluster from being up, one line each; empty when every pod that is wanted is ready. */
  unready(): readonly string[] {
    const pods = [...this.#pods.values()].filter((pod) => !pod.ready);
    const lines = pods.map((pod) => `${this.name}: pod ${pod.parts.name}: ${pod.status().message ?? "not ready"}`);
    for (const [workload, why] of this.#startProblems) lines.push(`${this.name}: ${workload}: ${why}`);
    if (this.#busy || this.#timer) lines.push(`${this.name}: pods are being started`);
    return lines;
  }

  /** Whether a pod cannot come up as things stand, so that waiting longer would be in vain. */
  hopeless(): string | undefined {
    for (const pod of this.#pods.values()) {
      const { phase, message, name } = pod.status();
      if (phase === "ErrImageNeverPull") return `${this.name}: pod ${name}: ${message}`;
    }
    return undefined;
  }

  async status(): Promise<ClusterStatus> {
    const { parts } = this;
    const plan = addressPlan(parts.index);
    const explicit = parts.mode === "explicit";
    const gatewayPod = [...this.#pods.values()].find((pod) => gatewayRole(pod.parts.wanted) === "ingress");
    const problems = [...this.manifests.problems, ...this.#startProblems.values(), ...(await this.#complaints())];
    const pods = [...this.#pods.values()].map((pod) => pod.status());
    return {
      name: this.name,
      ready: this.#controlReady && pods.every(({ ready }) => ready),
      gateway: {
        address: explicit ? loopback : plan.gateway,
        hostname: gatewayHostname(this.name),
        nodeAddress: explicit ? loopback : plan.node,
        nodePort: explicit && gatewayPod ? this.#reachedAt(gatewayPod, 15443) : gatewayNodePort,
      },
      controlPlane: {
        address: explicit ? `${loopback}:${this.#ports.get("control")}` : `${plan.controlPlane}:15012`,
        admin: this.#controlSocket,
        ready: this.#controlReady,
      },
      pods,
      problems: [...new Set(problems)],
    };
  }

  /** What the control plane finds wrong, when it can be asked. */
  async #complaints(): Promise<readonly string[]> {
    const { status, text } = await askAdmin(this.#controlSocket, "/problems");
    if (status !== 200) return [];
    try {
      const said: unknown = JSON.parse(text);
      if (!Array.isArray(said)) return [];
      return said.map((line) =>
        typeof line === "string" ? line : String((line as { text?: unknown }).text ?? JSON.stringify(line)),
      );
    } catch {
      return text.split("\n").filter((line) => line.trim() !== "");
    }
  }

  /** Finds one container. `controlplane` and `resolver` are workloads of their own. */
  place(target: LabTarget): TargetPlace {
    const { workload, container } = target;
    if (workload === "controlplane" || workload === "resolver") {
      const logFile = join(this.parts.logs, `${workload}.log`);
      return { pod: workload, namespace: systemNamespace, container: workload, env: {}, logFile };
    }
    const pod = this.#find(target);
    const names = pod.containerNames();
    const chosen = container ?? names[0];
    if (chosen === undefined || !names.includes(chosen)) {
      throw new Failure("lab/container", `pod "${pod.parts.name}" has no container "${container}"`, {
        hint: `it has ${names.join(", ")}`,
      });
    }
    const { holder } = pod.parts.network;
    return {
      pod: pod.parts.name,
      namespace: pod.parts.wanted.namespace,
      container: chosen,
      ...(holder === undefined ? {} : { holder }),
      env: pod.environment(chosen === proxyContainer ? undefined : chosen),
      logFile: pod.parts.logFile(chosen),
    };
  }

  #find({ workload, namespace }: LabTarget): LabPod {
    const alias = `isthmus-${workload}`;
    const all = [...this.#pods.values()].filter(
      (pod) => namespace === undefined || pod.parts.wanted.namespace === namespace,
    );
    const named = (name: string) =>
      all.filter(
        ({ parts }) =>
          parts.name === name || parts.wanted.workload === name || `deploy/${parts.wanted.workload}` === name,
      );
    const found = [named(workload), named(alias)].find((pods) => pods.length > 0) ?? [];
    const namespaces = new Set(found.map(({ parts }) => parts.wanted.namespace));
    if (namespaces.size > 1) {
      throw new Failure(
        "lab/workload",
        `"${workload}" is in namespaces ${[...namespaces].join(" and ")} of "${this.name}"`,
        {
          hint: "say which with -n",
        },
      );
    }
    const best = found.find((pod) => pod.ready) ?? found.find((pod) => !pod.terminating) ?? found[0];
    if (best) return best;
    const known = [
      ...new Set([...this.#pods.values()].map(({ parts }) => `${parts.wanted.namespace}/${parts.wanted.workload}`)),
    ];
    throw new Failure("lab/workload", `there is no "${workload}" in cluster "${this.name}"`, {
      hint: known.length > 0 ? `there is ${known.join(", ")}` : "no pod runs there",
    });
  }

  crash(target: LabTarget, signal: NodeJS.Signals): void {
    if (target.workload === "controlplane") {
      this.#controlPlane?.crash(signal);
      return;
    }
    const container = target.container ?? proxyContainer;
    if (!this.#find(target).crash(container, signal)) {
      throw new Failure("lab/container", `"${target.workload}" has no container "${container}"`);
    }
  }
}

/** Ports that a gateway may be reached at. */
export const gatewayPorts: readonly number[] = [15021, 8080, 8443, 15443];

/** On loopback: what the port is reserved as at which a cluster's gateway is found. */
export function gatewayPortName(index: number, role: "ingress" | "egress", port: number): string {
  return `${index}/${role}/${port}`;
}

function gatewayRole(wanted: WantedPod): "ingress" | "egress" | undefined {
  const isGateway = wanted.containers.some(
    ({ image }) => imageCommand({ image, port: 80, annotations: {} }).kind === "gateway",
  );
  if (!isGateway) return undefined;
  return wanted.labels["istio"] === "egressgateway" ? "egress" : "ingress";
}

function groupOf({ namespace, workload }: WantedPod): string {
  return `${namespace}/${workload}`;
}

function ofKind<K extends Resource["kind"]>(resources: readonly Resource[], kind: K): Extract<Resource, { kind: K }>[] {
  return resources.filter((resource): resource is Extract<Resource, { kind: K }> => resource.kind === kind);
}

function programEnv(): Readonly<Record<string, string>> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: "/" };
}
