import { join } from "node:path";
import { Failure, type Scope, sleep } from "../base/index.ts";
import { askAdmin } from "./admin-client.ts";
import { type ClusterParts, programEnv } from "./cluster-parts.ts";
import { controlPlaneLine, resolverLine } from "./command-lines.ts";
import { lastLines } from "./follow.ts";
import { type LoopbackPorts, loopback } from "./loopback.ts";
import { addressPlan, type PodNetwork } from "./network.ts";
import { systemNamespace } from "./profile.ts";
import { Program } from "./program.ts";
import type { TargetPlace } from "./protocol.ts";
import type { ControlPlaneStatus } from "./types.ts";

/** How often a control plane that is up is asked whether it still is. */
const lookMs = 3_000;
/** How often it may end in a row while it comes up, before the lab gives up. */
const startFailures = 3;

/** The control plane of one cluster, in a place of its own, and the resolver that stands for the outside's DNS. */
export class ControlPlane {
  readonly #parts: ClusterParts;
  readonly #ports: LoopbackPorts;
  readonly #socket: string;
  readonly #log: string;
  #place: PodNetwork | undefined;
  #program: Program | undefined;
  #problem: string | undefined = "not started";

  constructor(parts: ClusterParts, ports: LoopbackPorts) {
    this.#parts = parts;
    this.#ports = ports;
    this.#socket = parts.nextSocket();
    this.#log = join(parts.logs, "controlplane.log");
  }

  get ready(): boolean {
    return this.#problem === undefined;
  }

  /** Starts both, and resolves when the control plane is ready to let proxies in. */
  async start(signal: AbortSignal): Promise<void> {
    const parts = this.#parts;
    const { network, mode, clock } = parts;
    const plan = addressPlan(parts.index);
    const explicit = mode === "explicit";
    if (explicit) await this.#ports.reserve(["control", "dns"]);
    const name = parts.cluster.name;
    const common = { clock, random: parts.random, log: parts.log };
    if (!explicit) {
      new Program({
        ...common,
        name: `${name}/resolver`,
        logFile: join(parts.logs, "resolver.log"),
        line: () => ({
          argv: network.atRouter(resolverLine({ listen: `${plan.router}:53`, table: parts.outsideNames })),
          env: programEnv(),
        }),
        onChange: () => {},
      });
    }
    const place = await network.addPod({
      name: `isthmus-controlplane-${name}`,
      namespace: systemNamespace,
      folder: join(parts.podsFolder, `${parts.index}-controlplane`),
      ip: plan.controlPlane,
      nameserver: plan.router,
      injected: false,
      excludeInboundPorts: [],
      excludeOutboundPorts: [],
    });
    this.#place = place;
    const line = controlPlaneLine({
      cluster: name,
      configs: ["system", "copied", "applied", "runtime"].map((layer) => join(parts.folder, layer)),
      cacerts: parts.cacerts,
      listen: explicit ? `${loopback}:${this.#ports.get("control")}` : plan.controlPlane,
      plaintext: !explicit,
      dns: explicit ? `${loopback}:${this.#ports.get("dns")}` : `${plan.controlPlane}:53`,
      dnsUpstream: explicit ? [] : [plan.router],
      tokensJwks: parts.tokensJwks,
      admin: this.#socket,
      workloadCertTtl: parts.workloadCertTtl,
      logLevel: parts.logLevel,
    });
    const program = new Program({
      ...common,
      name: `${name}/controlplane`,
      logFile: this.#log,
      line: () => place.enter(line, "app", programEnv()),
      onChange: () => {
        if (program.state.phase !== "running") this.#problem = this.#whyDown();
      },
    });
    this.#program = program;
    for (;;) {
      signal.throwIfAborted();
      await this.#look();
      if (this.ready) return;
      if (program.failures >= startFailures) {
        throw new Failure("lab/control-plane", `the control plane of "${name}" does not start: ${this.#whyDown()}`);
      }
      await sleep(clock, 100, signal);
    }
  }

  /** From here on its state is looked at now and then. */
  watch(scope: Scope): void {
    if (scope.closed) return;
    this.#parts.clock.after(lookMs, () => void this.#look().finally(() => this.watch(scope)), { background: true });
  }

  async #look(): Promise<void> {
    const { status, text } = await askAdmin(this.#socket, "/ready");
    this.#problem = status === 200 ? undefined : (this.#whyDown() ?? `not ready: ${text.trim().slice(0, 300)}`);
  }

  /** Why its program does not run; undefined when it does. */
  #whyDown(): string | undefined {
    const { state, failures } = this.#program ?? {};
    if (state === undefined || state.phase === "running") return undefined;
    const why = state.phase === "waiting" ? state.why : "stopped";
    return `${why}, ${failures} in a row: ${lastLines(this.#log, 3).slice(0, 1200)}`;
  }

  async status(): Promise<ControlPlaneStatus> {
    const { index, mode } = this.#parts;
    if (this.#program) await this.#look();
    const address =
      mode === "explicit"
        ? `${loopback}:${this.#ports.has("control") ? this.#ports.get("control") : "-"}`
        : `${addressPlan(index).controlPlane}:15012`;
    return {
      address,
      admin: this.#socket,
      ready: this.ready,
      restarts: this.#program?.restarts ?? 0,
      ...(this.#problem === undefined ? {} : { message: this.#problem }),
    };
  }

  /** What the control plane finds wrong, when it can be asked. */
  async complaints(): Promise<readonly string[]> {
    const { status, text } = await askAdmin(this.#socket, "/problems");
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

  /** Where its commands run, as for any pod. The resolver has a log only. */
  placeOf(workload: "controlplane" | "resolver"): TargetPlace {
    const holder = workload === "controlplane" ? this.#place?.holder : undefined;
    return {
      pod: workload,
      namespace: systemNamespace,
      container: workload,
      ...(holder === undefined ? {} : { holder }),
      env: workload === "controlplane" ? { ...programEnv(), HOSTNAME: workload } : {},
      logFile: join(this.#parts.logs, `${workload}.log`),
    };
  }

  crash(signal: NodeJS.Signals): void {
    this.#program?.crash(signal);
  }
}
