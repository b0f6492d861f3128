import { join } from "node:path";
import { explain, Failure, type Scope, sleep, type Timer } from "../base/index.ts";
import type { Resource, Service } from "../resources/index.ts";
import type { ClusterParts } from "./cluster-parts.ts";
import { ControlPlane } from "./control-plane.ts";
import { findPod, findPods, placeIn } from "./find-pod.ts";
import { gatewayPortName, gatewayRole } from "./gateway-role.ts";
import { forLoopback, type LoopbackGateway, LoopbackPorts, loopback } from "./loopback.ts";
import { Manifests } from "./manifests.ts";
import { addressPlan } from "./network.ts";
import { type LabPod, proxyContainer } from "./pod.ts";
import { PodMaker } from "./pod-maker.ts";
import { groupOf, planPods } from "./pod-plan.ts";
import { profileObjects } from "./profile.ts";
import type { TargetPlace } from "./protocol.ts";
import type { RunningPod } from "./runtime-objects.ts";
import { RuntimeState } from "./runtime-state.ts";
import type { ClusterStatus, LabTarget } from "./types.ts";
import { egressClusterIp, egressHostnames, gatewayHostname, gatewayNodePort } from "./variables.ts";
import type { Unready } from "./waiting.ts";
import { type WantedPod, wantedPods } from "./workloads.ts";

/** How long news is gathered before pods and endpoints are looked at again. */
const settleMs = 20;
/** How long all that was asked for may take to be there. */
const settleWithinMs = 60_000;
const tokensRenewMs = 12 * 3_600_000;

/** One cluster: its control plane, and what Kubernetes would do beside it: pods, addresses, endpoints. */
export class Cluster {
  readonly parts: ClusterParts;
  readonly manifests: Manifests;
  readonly #pods = new Map<string, LabPod>();
  readonly #ports = new LoopbackPorts();
  readonly #controlPlane: ControlPlane;
  readonly #maker: PodMaker;
  readonly #runtime: RuntimeState;
  readonly #startProblems = new Map<string, string>();
  /** By namespace and Deployment: how many pods it has, whatever its manifest says. */
  readonly #scales = new Map<string, number>();
  /** Of pods that go because of that. */
  #graceMs: number | undefined;
  #wanted: readonly WantedPod[] = [];
  #timer: Timer | undefined;
  #busy = false;
  #again = false;
  #started = false;

  constructor(parts: ClusterParts, scope: Scope) {
    this.parts = parts;
    this.#controlPlane = new ControlPlane(parts, this.#ports);
    this.#maker = new PodMaker(parts, this.#ports);
    this.#runtime = new RuntimeState(parts);
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
        onChange: () => this.#poke(),
      },
      scope,
    );
    scope.defer(() => this.#timer?.cancel());
  }

  get name(): string {
    return this.parts.cluster.name;
  }

  /** Gateways of all clusters, and the own egress gateway, whose cluster address and names are the same in each. */
  #gatewaysSeen(): readonly LoopbackGateway[] {
    const { loopback: shared, index } = this.parts;
    if (!shared) return [];
    const port = shared.ports.get(gatewayPortName(index, "egress", 15443));
    const known = [egressClusterIp, ...egressHostnames].map((address) => ({ address, port: 15443 }));
    return [...shared.gateways, { known, port }];
  }

  /** Resolves when the control plane is ready to let proxies in. */
  startControlPlane(signal: AbortSignal): Promise<void> {
    this.#runtime.write(this.#services(), []);
    return this.#controlPlane.start(signal);
  }

  /** Starts pods, and from here on follows manifests. */
  startPods(scope: Scope): void {
    this.#started = true;
    this.#poke();
    this.#renewTokensLater(scope);
    this.#controlPlane.watch(scope);
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
      scales: this.#scales,
    });
    this.#wanted = wanted;
    const { missing, stop } = planPods(wanted, [...this.#pods.values()]);
    for (const pod of stop) this.#stop(pod, this.#scales.has(groupOf(pod.parts.wanted)) ? this.#graceMs : undefined);
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
    const pods = this.#running();
    this.#runtime.write(this.#services(), pods);
    await this.#runtime.setForwards(this.#services(), pods);
  }

  #stop(pod: LabPod, graceMs: number | undefined): void {
    void pod
      .stop(graceMs)
      .catch((err) => this.parts.log.error({ err, pod: pod.parts.name }, "pod not stopped cleanly"))
      .finally(() => {
        this.#pods.delete(`${pod.parts.wanted.namespace}/${pod.parts.name}`);
        this.#maker.free(pod.parts.network.ip);
        this.#poke();
      });
  }

  async #start(wanted: WantedPod): Promise<void> {
    const pod = await this.#maker.make(wanted, () => this.#poke());
    this.#pods.set(`${wanted.namespace}/${pod.parts.name}`, pod);
    await pod.start();
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
        setOuterPorts: (ports) => network.setOuterPorts(ports),
        reachedAt: (port: number) => this.#maker.reachedAt(pod, port),
      }));
  }

  #services(): readonly Service[] {
    return ofKind([...this.manifests.resources.values()], "Service");
  }

  /** Whether what is wanted was looked at since it changed last: before that `unready` does not know everything. */
  get settled(): boolean {
    return !this.#busy && this.#timer === undefined;
  }

  /** What keeps the cluster from being up; empty when every pod that is known to be wanted is ready. */
  unready(): readonly Unready[] {
    const cluster = this.name;
    const pods = [...this.#pods.values()];
    const there = new Set(pods.map((pod) => groupOf(pod.parts.wanted)));
    const missing = this.#wanted.filter((wish) => !there.has(groupOf(wish)));
    return [
      ...pods
        .filter((pod) => !pod.ready)
        .map((pod) => {
          const { workload, phase, message = "not ready" } = pod.status();
          return {
            cluster,
            workload,
            why: message,
            failing: phase === "CrashLoopBackOff" || phase === "ErrImageNeverPull",
          };
        }),
      ...missing.map((wish) => {
        const problem = this.#startProblems.get(groupOf(wish));
        return { cluster, workload: wish.workload, why: problem ?? "not started yet", failing: problem !== undefined };
      }),
    ];
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
    const [controlPlane, complaints] = await Promise.all([
      this.#controlPlane.status(),
      this.#controlPlane.complaints(),
    ]);
    const problems = [...this.manifests.problems, ...this.#startProblems.values(), ...complaints];
    const pods = [...this.#pods.values()].map((pod) => pod.status());
    return {
      name: this.name,
      ready: controlPlane.ready && this.#startProblems.size === 0 && pods.every(({ ready }) => ready),
      gateway: {
        address: explicit ? loopback : plan.gateway,
        hostname: gatewayHostname(this.name),
        nodeAddress: explicit ? loopback : plan.node,
        nodePort: explicit && gatewayPod ? this.#maker.reachedAt(gatewayPod, 15443) : gatewayNodePort,
      },
      controlPlane,
      pods,
      problems: [...new Set(problems)],
    };
  }

  /** Finds one container. `controlplane` and `resolver` are workloads of their own. */
  place(target: LabTarget): TargetPlace {
    const { workload } = target;
    if (workload === "controlplane" || workload === "resolver") return this.#controlPlane.placeOf(workload);
    return placeIn(findPod([...this.#pods.values()], target, this.name), target.container);
  }

  /** All pods of a workload, as `place` says one. */
  places(target: LabTarget): readonly TargetPlace[] {
    return findPods([...this.#pods.values()], target, this.name).map((pod) => placeIn(pod, target.container));
  }

  /** As many pods of a Deployment as this, or as its manifest says. */
  scale(target: LabTarget, options: { readonly replicas?: number; readonly graceMs?: number }): void {
    const { replicas, graceMs } = options;
    const group = this.#groupNamed(target);
    this.#graceMs = graceMs;
    if (replicas === undefined) this.#scales.delete(group);
    else this.#scales.set(group, replicas);
    this.#poke();
  }

  /** A Deployment that is scaled to nothing has no pods by which it could be found. */
  #groupNamed(target: LabTarget): string {
    const names = [target.workload, target.workload.replace(/^(istio-)?/, "isthmus-")];
    const scaled = [...this.#scales.keys()].find((group) => {
      const [namespace, name] = group.split("/");
      return names.includes(name!) && (target.namespace === undefined || target.namespace === namespace);
    });
    return scaled ?? groupOf(findPod([...this.#pods.values()], target, this.name).parts.wanted);
  }

  signal(target: LabTarget, signal: NodeJS.Signals): void {
    for (const pod of findPods([...this.#pods.values()], target, this.name)) pod.signal(signal);
  }

  /** Resolves when every pod that is wanted is ready, and none is left that is not wanted. */
  async settle(): Promise<void> {
    const { clock } = this.parts;
    const until = clock.monotonic() + settleWithinMs;
    const restless = () => [...this.#pods.values()].filter((pod) => pod.terminating).map((pod) => pod.parts.name);
    while (!this.settled || this.unready().length > 0 || restless().length > 0) {
      if (clock.monotonic() > until) {
        const lines = this.unready().map(({ workload, why }) => `${workload}: ${why}`);
        throw new Failure(
          "lab/not-ready",
          `cluster "${this.name}" is not at rest after ${settleWithinMs / 1000} s: ${[...lines, ...restless()].join("; ")}`,
        );
      }
      await sleep(clock, 5);
    }
  }

  crash(target: LabTarget, signal: NodeJS.Signals): void {
    if (target.workload === "controlplane") {
      this.#controlPlane.crash(signal);
      return;
    }
    const container = target.container ?? proxyContainer;
    if (!findPod([...this.#pods.values()], target, this.name).crash(container, signal)) {
      throw new Failure("lab/container", `"${target.workload}" has no container "${container}"`);
    }
  }
}

function ofKind<K extends Resource["kind"]>(resources: readonly Resource[], kind: K): Extract<Resource, { kind: K }>[] {
  return resources.filter((resource): resource is Extract<Resource, { kind: K }> => resource.kind === kind);
}
