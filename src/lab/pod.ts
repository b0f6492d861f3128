import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, explain, type Logger, type Timer } from "../base/index.ts";
import { proxyUid } from "../proxy/index.ts";
import { askAdmin } from "./admin-client.ts";
import { lastLines } from "./follow.ts";
import { imageCommand, withPorts } from "./images.ts";
import type { PodNetwork } from "./network.ts";
import { Program } from "./program.ts";
import { ReadinessProbe } from "./readiness-probe.ts";
import type { PodPhase, PodStatus } from "./types.ts";
import type { WantedPod } from "./workloads.ts";

/** What a pod is made of besides its wish. */
export interface PodParts {
  readonly wanted: WantedPod;
  readonly name: string;
  readonly cluster: string;
  readonly network: PodNetwork;
  /** A folder of its own: token, root certificate, the files that it sees. */
  readonly folder: string;
  readonly adminSocket: string;
  readonly logFile: (container: string) => string;
  /** The proxy's command; undefined for a pod without one. */
  readonly proxy: readonly string[] | undefined;
  /** Where the application is to listen when a container declares `port`. The same number but on loopback. */
  readonly appPort: (port: number) => number;
  /** What an application's environment has more than the manifest says: how to reach the mesh where nothing captures. */
  readonly appEnv: Readonly<Record<string, string>>;
  readonly secrets: { readonly token: string; readonly rootCert: string };
  /** Whether the proxy is another user than the lab. */
  readonly proxyIsOther: boolean;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Told whenever what the pod's status says may have changed. */
  readonly onChange: () => void;
}

export const proxyContainer = "istio-proxy";
/** How long between two looks: while it comes up, and once it is ready. */
const lookMs = { starting: 200, ready: 3_000 };

/** One pod: its proxy first, its containers when that is ready, and whether callers may come. */
export class LabPod {
  readonly parts: PodParts;
  readonly #programs = new Map<string, Program>();
  readonly #environments = new Map<string, Readonly<Record<string, string>>>();
  #timer: Timer | undefined;
  #ready = false;
  #appsStarted = false;
  #stopping = false;
  #message = "starting";
  #frozen = false;
  #imageProblem: string | undefined;
  readonly #probes: ReadonlyMap<string, ReadinessProbe>;

  constructor(parts: PodParts) {
    this.parts = parts;
    this.#probes = new Map(
      parts.wanted.containers.flatMap((container) =>
        container.readinessProbe ? [[container.name, new ReadinessProbe(container, container.readinessProbe)]] : [],
      ),
    );
  }

  get ready(): boolean {
    return this.#ready && !this.#stopping;
  }

  get terminating(): boolean {
    return this.#stopping;
  }

  /** Writes what the pod needs to be let in, starts its proxy, and its containers when the proxy is ready. */
  async start(): Promise<void> {
    const { proxy, network, wanted } = this.parts;
    this.writeSecrets(this.parts.secrets.token);
    if (proxy) {
      if (wanted.injected) await network.capture();
      this.#run(proxyContainer, () => network.enter(proxy, "proxy", this.#baseEnv()));
    } else this.#startContainers();
    this.#look();
  }

  /** Called again when the token is renewed: the proxy reads the file each time that it asks for a certificate. */
  writeSecrets(token: string): void {
    const { folder, secrets, proxy, proxyIsOther } = this.parts;
    if (!proxy) return;
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    writeFileSync(join(folder, "root-cert.pem"), secrets.rootCert);
    writeFileSync(join(folder, "token"), token, { mode: 0o600 });
    if (!proxyIsOther) return;
    for (const path of [folder, join(folder, "token")]) chownSync(path, proxyUid, proxyUid);
  }

  environment(container: string | undefined): Readonly<Record<string, string>> {
    const first = this.#environments.values().next().value;
    return (container === undefined ? first : this.#environments.get(container)) ?? this.#baseEnv();
  }

  containerNames(): readonly string[] {
    const own = this.parts.wanted.containers.map(({ name }) => name).filter((name) => name !== proxyContainer);
    return this.parts.proxy ? [...own, proxyContainer] : own;
  }

  status(): PodStatus {
    const { wanted, name, network } = this.parts;
    const restarts = [...this.#programs.values()].reduce((sum, program) => sum + program.restarts, 0);
    return {
      namespace: wanted.namespace,
      name,
      workload: wanted.workload,
      ip: network.ip,
      ...(network.wanIp === undefined ? {} : { wanIp: network.wanIp }),
      phase: this.#phase(),
      ready: this.ready,
      injected: wanted.injected,
      restarts,
      ...(this.ready ? {} : { message: this.#imageProblem ?? this.#message }),
    };
  }

  #phase(): PodPhase {
    if (this.#stopping) return "Terminating";
    if (this.#imageProblem !== undefined) return "ErrImageNeverPull";
    const programs = [...this.#programs.values()];
    if (programs.some(({ failures, state }) => state.phase === "waiting" && failures > 1)) return "CrashLoopBackOff";
    return this.#appsStarted && programs.every(({ state }) => state.phase === "running") ? "Running" : "Pending";
  }

  #run(container: string, line: () => { argv: readonly string[]; env: Readonly<Record<string, string>> }): void {
    const { logFile, clock, random, log, onChange } = this.parts;
    this.#programs.set(
      container,
      new Program({
        name: `${this.parts.name}/${container}`,
        line,
        logFile: logFile(container),
        clock,
        random,
        log,
        onChange: () => {
          // What just ended cannot serve: callers are to hear of it now, not at the next look.
          this.#judge("a program of it ended");
          this.#lookSoon();
          onChange();
        },
      }),
    );
  }

  #startContainers(): void {
    if (this.#appsStarted) return;
    this.#appsStarted = true;
    const { wanted, network } = this.parts;
    for (const container of wanted.containers) {
      const declared = container.ports[0]?.containerPort;
      const port = declared === undefined ? undefined : this.parts.appPort(declared);
      const command = imageCommand({ image: container.image, port: port ?? 80, annotations: wanted.annotations });
      if (command.kind === "gateway") continue;
      if (command.kind === "unknown") {
        this.#imageProblem = command.message;
        continue;
      }
      const own = [...container.command, ...container.args];
      const listenPortOf = (wantedPort: number) =>
        container.ports.some(({ containerPort }) => containerPort === wantedPort)
          ? this.parts.appPort(wantedPort)
          : undefined;
      const argv = command.kind === "run" ? [...command.argv, ...withPorts(container.args, listenPortOf)] : own;
      if (argv.length === 0) {
        this.#imageProblem = `container "${container.name}" with image "${container.image}" needs a command`;
        continue;
      }
      const env = {
        ...this.#baseEnv(),
        ...(port === undefined ? {} : { PORT: String(port) }),
        ...(command.kind === "run" ? command.env : {}),
        ...this.parts.appEnv,
        ...Object.fromEntries(container.env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]]))),
      };
      this.#environments.set(container.name, env);
      this.#run(container.name, () => network.enter(argv, "app", env));
    }
  }

  #baseEnv(): Readonly<Record<string, string>> {
    return {
      PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
      HOME: "/",
      HOSTNAME: this.parts.name,
      POD_NAMESPACE: this.parts.wanted.namespace,
      POD_CLUSTER: this.parts.cluster,
      POD_WORKLOAD: this.parts.wanted.workload,
      POD_VERSION: this.parts.wanted.labels["version"] ?? "",
      LANG: process.env["LANG"] ?? "C.UTF-8",
    };
  }

  #lookSoon(): void {
    this.#timer?.cancel();
    if (!this.#stopping) this.#timer = this.parts.clock.after(lookMs.starting, () => this.#look());
  }

  #look(): void {
    if (this.#stopping) return;
    void this.#whyNot()
      .catch((caught) => explain(caught))
      .then((problem) => {
        if (this.#stopping) return;
        this.#judge(problem);
        this.#timer?.cancel();
        this.#timer = this.parts.clock.after(this.#ready ? lookMs.ready : lookMs.starting, () => this.#look());
      });
  }

  #judge(problem: string | undefined): void {
    const before = this.#ready;
    this.#ready = problem === undefined;
    const news = problem !== undefined && problem !== this.#message;
    this.#message = problem ?? "";
    if (before !== this.#ready || news) this.parts.onChange();
  }

  /** Why callers may not come yet; undefined when they may. */
  async #whyNot(): Promise<string | undefined> {
    // Nothing of it could answer, and nobody asks for it to be found out.
    if (this.#frozen) return this.#ready ? undefined : this.#message;
    const { proxy, network, wanted, adminSocket } = this.parts;
    for (const [name, { state, failures }] of this.#programs) {
      if (state.phase === "running") continue;
      if (state.phase === "stopped") return `${name} stopped`;
      const said = lastLines(this.parts.logFile(name), 1).slice(0, 400);
      return `${name} ${state.why}, ${failures} in a row: ${said}`;
    }
    if (proxy) {
      const answer = await askAdmin(adminSocket, "/ready");
      if (answer.status !== 200) return `${proxyContainer} is not ready: ${answer.text.trim().slice(0, 300)}`;
      this.#startContainers();
    }
    if (this.#imageProblem !== undefined) return this.#imageProblem;
    for (const container of wanted.containers) {
      for (const { containerPort, protocol } of container.ports) {
        if (protocol !== "TCP") continue;
        const port = this.parts.appPort(containerPort);
        if (!(await network.listens(port))) return `${container.name} does not listen on port ${port} yet`;
      }
      const { clock, appPort } = this.parts;
      const env = this.environment(container.name);
      const problem = await this.#probes.get(container.name)?.problem({ clock, network, appPort, env });
      if (problem !== undefined) return `readiness probe of ${wanted.workload}/${container.name}: ${problem}`;
    }
    return undefined;
  }

  /** Keeps the applications (the proxy, where there is none) from running, or lets them run on; what it was ready for it stays. */
  signal(signal: NodeJS.Signals): void {
    const apps = [...this.#programs].filter(([name]) => name !== proxyContainer).map(([, program]) => program);
    this.#frozen = signal === "SIGSTOP";
    for (const program of apps.length > 0 ? apps : this.#programs.values()) program.signal(signal);
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Callers are told first; then everything of it is asked to end, and has until its grace is over. */
  async stop(grace: number = this.parts.wanted.graceMs): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#timer?.cancel();
    this.parts.onChange();
    const tell = () => new Promise<void>((resolve) => this.parts.clock.after(tellMs, resolve));
    await tell();
    const graceMs = Math.min(grace, longestGraceMs);
    // The proxy ends its callers' connections while the application still answers what came on them.
    const proxy = this.#programs.get(proxyContainer);
    const ended = proxy?.stop(graceMs);
    if (proxy && graceMs > 0) await tell();
    await Promise.all([...this.#programs.values()].filter((one) => one !== proxy).map((one) => one.stop(graceMs)));
    await ended;
    await this.parts.network.close();
  }

  /** Sends a signal to one of its programs, as a crash would; for tests of what follows. */
  crash(container: string, signal: NodeJS.Signals): boolean {
    const program = this.#programs.get(container);
    program?.crash(signal);
    return program !== undefined;
  }
}

/** How long callers have to hear that a pod is going before it goes, and its proxy before its application. */
const tellMs = 500;
const longestGraceMs = 30_000;
