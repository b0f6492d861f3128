import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { explain } from "../../../src/base/index.ts";
import { lastLines } from "../../../src/lab/follow.ts";
import { type ContainerProcess, type Exit, execLine, runInContainer, startProcess } from "./container-process.ts";
import { containerScript, isthmusProgram, packageMounts } from "./container-root.ts";
import type { Deadline } from "./deadline.ts";
import { containerEnvironment } from "./environment.ts";
import { commandLine, findImage } from "./images.ts";
import type { NodeParts } from "./node-parts.ts";
import type { ContainerSpec, Hook, HttpGet, PodObject, ProbeSpec } from "./pod-object.ts";
import { portNumber } from "./pod-object.ts";
import type { PodPlace } from "./pod-place.ts";
import type { ContainerFacts, ContainerState, Terminated } from "./pod-status.ts";
import type { PodVolumes } from "./pod-volumes.ts";
import { ProbeLoop } from "./probe-loop.ts";
import type { ProbeRequest, ProbeResult } from "./prober.ts";
import { privileges } from "./security.ts";
import { expandVariables } from "./variables.ts";

/** What a container's pod lends it. */
export interface ContainerHost {
  readonly parts: NodeParts;
  readonly pod: () => PodObject;
  readonly place: () => PodPlace;
  readonly volumes: () => PodVolumes;
  /** Something that the status shows has changed. */
  readonly onChange: () => void;
  /** A probe says that the container must be started anew. */
  readonly onUnhealthy: (run: ContainerRun) => void;
}

/** A start that came to nothing, as the status says it; with `final` it never will. */
export interface StartProblem {
  readonly reason: string;
  readonly message: string;
}

/** A command inside the running container. */
export interface ExecPlace {
  readonly line: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How long a hook may take that is not bounded by the pod's end. */
const hookMs = 60_000;

/** One container: started as often as its pod says, looked at while it runs. */
export class ContainerRun {
  readonly spec: ContainerSpec;
  readonly #host: ContainerHost;
  #state: ContainerState = { kind: "waiting", reason: "PodInitializing" };
  #last: Terminated | undefined;
  #runs = 0;
  #started = false;
  #ready = false;
  #process: ContainerProcess | undefined;
  #exec: ExecPlace | undefined;
  #loops: ProbeLoop[] = [];
  #ended: Promise<Exit> | undefined;

  constructor(spec: ContainerSpec, host: ContainerHost) {
    this.spec = spec;
    this.#host = host;
  }

  get facts(): ContainerFacts {
    return {
      spec: this.spec,
      state: this.#state,
      last: this.#last,
      restarts: Math.max(0, this.#runs - 1),
      started: this.#started,
      ready: this.#ready,
    };
  }

  get running(): boolean {
    return this.#process !== undefined;
  }

  get started(): boolean {
    return this.#started;
  }

  get exec(): ExecPlace | undefined {
    return this.#process && this.#exec;
  }

  /** The log of its current run, or of the one before. */
  logFile(previous = false): string {
    const run = Math.max(0, this.#runs - 1 - (previous ? 1 : 0));
    return join(this.#host.parts.logFolder(this.#host.pod()), `${this.spec.name}.${run}.log`);
  }

  signal(signal: NodeJS.Signals): boolean {
    this.#process?.signal(signal);
    return this.#process !== undefined;
  }

  wait(reason: string, message?: string): void {
    if (this.#state.kind === "terminated") this.#last = this.#state;
    this.#state = { kind: "waiting", reason, ...(message === undefined ? {} : { message }) };
    this.#host.onChange();
  }

  /** Starts it once, and runs its hook. Afterwards `ended` tells its end. */
  async start(): Promise<StartProblem | undefined> {
    const prepared = this.#prepare();
    if ("reason" in prepared) {
      this.wait(prepared.reason, prepared.message);
      return prepared;
    }
    const { parts, place, onChange } = this.#host;
    if (this.#state.kind === "terminated") this.#last = this.#state;
    const startedAt = parts.clock.now();
    this.#runs++;
    const logFile = this.logFile();
    const process = startProcess({ enter: place().enter, script: prepared.script, env: prepared.env, logFile });
    this.#process = process;
    this.#exec = {
      line: execLine(process.pid, prepared.privileges, this.spec.workingDir ?? "/"),
      env: prepared.env,
    };
    this.#started = false;
    this.#ready = false;
    this.#ended = process.exit.then((exit) => {
      this.#stopProbes();
      this.#process = undefined;
      this.#ready = false;
      this.#started = false;
      this.#state = this.#terminated(exit, startedAt, logFile);
      onChange();
      return exit;
    });
    const began = await process.began;
    if (!began) {
      await this.#ended;
      return undefined;
    }
    if (this.#process !== process) return undefined;
    this.#state = { kind: "running", startedAt };
    onChange();
    const hook = this.spec.lifecycle?.postStart;
    if (hook) {
      const problem = await Promise.race([this.#runHook(hook, hookMs * 10), process.exit.then(() => undefined)]);
      if (problem !== undefined) {
        parts.record(this.#host.pod(), "Warning", "FailedPostStartHook", `PostStartHook failed: ${problem}`);
        process.signal("SIGKILL");
        await this.#ended;
        return undefined;
      }
    }
    if (this.#process === process) this.#startProbes();
    return undefined;
  }

  /** Resolves when the run that `start` began has ended. */
  get ended(): Promise<Exit> {
    return this.#ended ?? Promise.resolve({ code: 0, signal: undefined });
  }

  /** Asks it to end, after its hook, and ends it at the deadline. */
  async stop(deadline: Deadline): Promise<void> {
    this.#stopProbes();
    const process = this.#process;
    if (!process) return;
    const hook = this.spec.lifecycle?.preStop;
    if (hook && !deadline.signal.aborted) {
      const done = this.#runHook(hook, hookMs * 10).then((problem) => {
        if (problem === undefined) return;
        this.#host.parts.record(this.#host.pod(), "Warning", "FailedPreStopHook", `PreStopHook failed: ${problem}`);
      });
      await deadline.within(Promise.race([done, process.exit]));
    }
    process.signal("SIGTERM");
    await deadline.within(process.exit);
    process.signal("SIGKILL");
    await this.#ended;
  }

  #prepare():
    | {
        readonly script: string;
        readonly env: Readonly<Record<string, string>>;
        readonly privileges: readonly string[];
      }
    | StartProblem {
    const { parts, place, volumes } = this.#host;
    const pod = this.#host.pod();
    const image = findImage(this.spec, pod, parts.cluster, parts.table);
    if (image.kind === "unknown") {
      const message = `Container image "${this.spec.image}" is not present with pull policy of Never: ${image.message}`;
      return { reason: "ErrImageNeverPull", message };
    }
    const wrong = (message: string) => ({ reason: "CreateContainerConfigError", message });
    const may = privileges(pod.spec, this.spec, image.user);
    if (!may.ok) return wrong(may.problem);
    const environment = containerEnvironment({
      pod,
      container: this.spec,
      image: { PATH: imagePath, HOME: may.user === 0 ? "/root" : "/", ...image.env },
      source: parts.values(pod.metadata.namespace),
      place: { podIp: place().ip, hostIp: parts.hostIp, node: parts.nodeName },
    });
    if (!environment.ok) return wrong(environment.problem);
    const command = commandLine(image, this.spec, (text) => expandVariables(text, environment.values));
    if (command.length === 0) {
      return { reason: "CreateContainerError", message: `no command specified for image "${this.spec.image}"` };
    }
    const folder = join(place().folder, "containers", this.spec.name);
    rmSync(folder, { recursive: true, force: true });
    for (const name of ["upper", "work", "root"]) mkdirSync(join(folder, name), { recursive: true, mode: 0o755 });
    if (image.isthmus) {
      const bin = join(folder, "upper/usr/local/bin");
      mkdirSync(bin, { recursive: true, mode: 0o755 });
      writeFileSync(join(bin, "isthmus"), isthmusProgram);
      chmodSync(join(bin, "isthmus"), 0o755);
    }
    try {
      const mounts = [
        ...place().mounts,
        ...packageMounts(parts.root, process.execPath),
        ...Object.entries(image.files).map(
          ([target, source]) => ({ source, target, kind: "file", readOnly: true }) as const,
        ),
        ...volumes().mounts(pod, this.spec, environment.values),
      ];
      const script = containerScript({
        folder,
        mounts,
        readOnlyRoot: this.spec.securityContext?.readOnlyRootFilesystem === true,
        workingDir: this.spec.workingDir ?? "/",
        command: [...may.line, ...command],
      });
      return { script, env: Object.fromEntries(environment.values), privileges: may.line };
    } catch (caught) {
      return wrong(`failed to prepare mounts: ${explain(caught)}`);
    }
  }

  #terminated({ code, signal }: Exit, startedAt: number, logFile: string): Terminated {
    const said =
      code !== 0 && this.spec.terminationMessagePolicy === "FallbackToLogsOnError" ? lastLines(logFile, 10) : "";
    return {
      kind: "terminated",
      exitCode: code,
      ...(signal === undefined ? {} : { signal }),
      reason: code === 0 ? "Completed" : "Error",
      ...(said === "" ? {} : { message: said.slice(-2000) }),
      startedAt,
      finishedAt: this.#host.parts.clock.now(),
    };
  }

  #startProbes(): void {
    const { startupProbe, readinessProbe, livenessProbe } = this.spec;
    const { parts, onChange, onUnhealthy } = this.#host;
    const loop = (kind: string, spec: ProbeSpec, initially: boolean, onTurn: (good: boolean) => void) => {
      let told = "";
      const started = new ProbeLoop({
        spec,
        initially,
        clock: parts.clock,
        check: () => this.#check(spec),
        onTurn,
        onFailure: (message) => {
          if (message === told) return;
          told = message;
          parts.record(this.#host.pod(), "Warning", "Unhealthy", `${kind} probe failed: ${message}`);
        },
      });
      this.#loops.push(started);
      return started;
    };
    const up = () => {
      this.#started = true;
      if (livenessProbe) loop("Liveness", livenessProbe, true, (good) => (good ? undefined : onUnhealthy(this)));
      if (readinessProbe) {
        loop("Readiness", readinessProbe, false, (good) => {
          this.#ready = good;
          onChange();
        });
      } else this.#ready = true;
      onChange();
    };
    if (!startupProbe) {
      up();
      return;
    }
    const first = loop("Startup", startupProbe, false, (good) => {
      first.stop();
      if (good) up();
      else onUnhealthy(this);
    });
  }

  #stopProbes(): void {
    for (const loop of this.#loops) loop.stop();
    this.#loops = [];
  }

  async #check(probe: ProbeSpec): Promise<ProbeResult> {
    const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
    if (probe.exec) {
      const { exec } = this;
      if (!exec) return { ok: false, message: "the container does not run" };
      const { code, output } = await runInContainer([...exec.line, ...(probe.exec.command ?? [])], exec.env, timeoutMs);
      return { ok: code === 0, message: output };
    }
    const request = this.#request(probe, timeoutMs);
    return typeof request === "string" ? { ok: false, message: request } : this.#host.parts.prober.check(request);
  }

  #request(probe: ProbeSpec, timeoutMs: number): ProbeRequest | string {
    const { ip } = this.#host.place();
    if (probe.httpGet) return this.#httpRequest(probe.httpGet, timeoutMs);
    const wanted = probe.tcpSocket?.port ?? probe.grpc?.port;
    const port = wanted === undefined ? undefined : portNumber(wanted, this.spec);
    if (port === undefined) return `the container has no port "${wanted}"`;
    if (probe.tcpSocket) return { kind: "tcp", host: probe.tcpSocket.host || ip, port, timeoutMs };
    return { kind: "grpc", host: ip, port, service: probe.grpc?.service ?? "", timeoutMs };
  }

  #httpRequest(
    { port: wanted, path = "/", host, scheme = "HTTP", httpHeaders = [] }: HttpGet,
    timeoutMs: number,
  ): ProbeRequest | string {
    const port = portNumber(wanted, this.spec);
    if (port === undefined) return `the container has no port "${wanted}"`;
    return {
      kind: "http",
      scheme: scheme === "HTTPS" ? "https" : "http",
      host: host || this.#host.place().ip,
      port,
      path: path.startsWith("/") ? path : `/${path}`,
      headers: httpHeaders,
      timeoutMs,
    };
  }

  /** What went wrong with a hook, or undefined. */
  async #runHook(hook: Hook, timeoutMs: number): Promise<string | undefined> {
    const { exec } = this;
    if (hook.exec && exec) {
      const { code, output } = await runInContainer([...exec.line, ...(hook.exec.command ?? [])], exec.env, timeoutMs);
      return code === 0 ? undefined : `command ended with ${code}: ${output}`;
    }
    if (hook.httpGet) {
      const request = this.#httpRequest(hook.httpGet, hookMs);
      if (typeof request === "string") return request;
      const { ok, message } = await this.#host.parts.prober.check(request);
      return ok ? undefined : message;
    }
    if (hook.sleep) {
      const { seconds } = hook.sleep;
      await new Promise<void>((resolve) => this.#host.parts.clock.after(seconds * 1000, resolve));
    }
    return undefined;
  }
}

/** Where a container looks for programs. */
const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
