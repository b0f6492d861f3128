import { join } from "node:path";
import { lastLines } from "../../../src/lab/follow.ts";
import { ContainerProbes, runHook } from "./container-probes.ts";
import { type ContainerProcess, type Exit, execLine, startProcess } from "./container-process.ts";
import { prepareStart, type StartProblem } from "./container-start.ts";
import type { Deadline } from "./deadline.ts";
import type { NodeParts } from "./node-parts.ts";
import type { ContainerSpec, PodObject } from "./pod-object.ts";
import type { PodPlace } from "./pod-place.ts";
import type { ContainerFacts, ContainerState, Terminated } from "./pod-status.ts";
import type { PodVolumes } from "./pod-volumes.ts";

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

/** A command inside the running container. */
export interface ExecPlace {
  readonly line: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How long a hook may take that is not bounded by the pod's end. */
const hookMs = 600_000;

/** One container: started as often as its pod says, looked at while it runs. */
export class ContainerRun {
  readonly spec: ContainerSpec;
  readonly #host: ContainerHost;
  #state: ContainerState;
  #last: Terminated | undefined;
  #runs = 0;
  #started = false;
  #ready = false;
  #process: ContainerProcess | undefined;
  #exec: ExecPlace | undefined;
  readonly #probes: ContainerProbes;
  #ended: Promise<Exit> | undefined;

  constructor(spec: ContainerSpec, host: ContainerHost) {
    this.spec = spec;
    this.#host = host;
    const initialising = (host.pod().spec.initContainers ?? []).length > 0;
    this.#state = { kind: "waiting", reason: initialising ? "PodInitializing" : "ContainerCreating" };
    this.#probes = new ContainerProbes({
      ...this.#looks,
      onStarted: () => {
        this.#started = true;
        host.onChange();
      },
      onReady: (ready) => {
        this.#ready = ready;
        host.onChange();
      },
      onUnhealthy: () => host.onUnhealthy(this),
      onFailure: (message) => host.parts.record(host.pod(), "Warning", "Unhealthy", message),
    });
  }

  /** How probes and hooks reach the container. */
  get #looks() {
    const { parts, place } = this.#host;
    return { spec: this.spec, ip: () => place().ip, exec: () => this.exec, prober: parts.prober, clock: parts.clock };
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

  /** In front of a command in its pod's network. */
  get enter(): readonly string[] {
    return this.#host.place().enter;
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
    const prepared = prepareStart(this.spec, this.#host);
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
      this.#probes.stop();
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
      const problem = await Promise.race([runHook(hook, this.#looks, hookMs), process.exit.then(() => undefined)]);
      if (problem !== undefined) {
        parts.record(this.#host.pod(), "Warning", "FailedPostStartHook", `PostStartHook failed: ${problem}`);
        process.signal("SIGKILL");
        await this.#ended;
        return undefined;
      }
    }
    if (this.#process === process) this.#probes.start();
    return undefined;
  }

  /** Resolves when the run that `start` began has ended. */
  get ended(): Promise<Exit> {
    return this.#ended ?? Promise.resolve({ code: 0, signal: undefined });
  }

  /** Asks it to end, after its hook, and ends it at the deadline. */
  async stop(deadline: Deadline): Promise<void> {
    this.#probes.stop();
    const process = this.#process;
    if (!process) return;
    const hook = this.spec.lifecycle?.preStop;
    if (hook && !deadline.signal.aborted) {
      const done = runHook(hook, this.#looks, hookMs).then((problem) => {
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
}
