import { explain } from "../../../src/base/index.ts";
import { ContainerKeeper, lookAgainMs } from "./container-keeper.ts";
import { type ContainerHost, ContainerRun } from "./container-run.ts";
import { Deadline } from "./deadline.ts";
import type { NodeParts } from "./node-parts.ts";
import { isSidecar, type PodCondition, type PodObject } from "./pod-object.ts";
import type { PodPlace } from "./pod-place.ts";
import { podStatus } from "./pod-status.ts";
import { PodVolumes } from "./pod-volumes.ts";
import { StatusWriter } from "./status-writer.ts";

/** A pod that nobody may wait for still gets this long. */
const leastGraceMs = 1_000;

/** One pod on this node, from its binding until nothing is left of it. */
export class PodWorker {
  readonly #parts: NodeParts;
  #pod: PodObject;
  readonly #startedAt: number;
  readonly #init: readonly ContainerRun[];
  readonly #main: readonly ContainerRun[];
  readonly #status: StatusWriter;
  #place: PodPlace | undefined;
  #volumes: PodVolumes | undefined;
  /** Aborts when the pod is to end. */
  readonly #stopping = new AbortController();
  /** Aborts then as well, and when all that it was to do is done. */
  readonly #over = new AbortController();
  readonly #keeper: ContainerKeeper;
  #deadline: Deadline | undefined;
  #news: AbortController = new AbortController();
  #conditions: readonly PodCondition[] = [];
  #mounted = false;
  readonly #running: Promise<void>;
  #stopped: Promise<void> | undefined;

  constructor(parts: NodeParts, pod: PodObject) {
    this.#parts = parts;
    this.#pod = pod;
    this.#startedAt = parts.clock.now();
    const host: ContainerHost = {
      parts,
      pod: () => this.#pod,
      place: () => this.#place!,
      volumes: () => this.#volumes!,
      onChange: () => this.#publish(),
      onUnhealthy: (run) => void this.#replace(run),
    };
    this.#init = (pod.spec.initContainers ?? []).map((spec) => new ContainerRun(spec, host));
    this.#main = pod.spec.containers.map((spec) => new ContainerRun(spec, host));
    this.#keeper = new ContainerKeeper({
      parts,
      pod: () => this.#pod,
      over: this.#over.signal,
      news: () => this.#news.signal,
    });
    this.#status = new StatusWriter(parts, pod, () => this.#statusNow());
    this.#running = this.#run().catch((caught) => {
      if (!this.stopping) parts.log.error({ pod: pod.metadata.name, error: explain(caught) }, "pod failed");
    });
  }

  get pod(): PodObject {
    return this.#pod;
  }

  get stopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  container(name: string | undefined): ContainerRun | undefined {
    const wanted = name ?? this.#main[0]?.spec.name;
    return [...this.#main, ...this.#init].find(({ spec }) => spec.name === wanted);
  }

  /** The pod as the API has it now. */
  update(pod: PodObject): void {
    const before = this.#pod;
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp) {
      const graceMs = (pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
      void this.stop(Math.max(leastGraceMs, graceMs), true);
      return;
    }
    const { labels, annotations } = pod.metadata;
    if (
      JSON.stringify([before.metadata.labels, before.metadata.annotations]) !== JSON.stringify([labels, annotations])
    ) {
      this.valuesChanged();
    }
  }

  /** A ConfigMap or a Secret of its namespace is another now. */
  valuesChanged(): void {
    this.#news.abort();
    this.#news = new AbortController();
    if (this.#mounted && !this.stopping) void this.#volumes?.refresh(this.#pod);
  }

  /** Resolves when nothing of it is left. With `remove` the API is told so, which ends the object. */
  stop(graceMs: number, remove: boolean): Promise<void> {
    this.#deadline?.shorten(graceMs);
    this.#stopped ??= this.#stop(graceMs, remove);
    return this.#stopped;
  }

  async #run(): Promise<void> {
    this.#publish();
    this.#place = await this.#parts.places.make(this.#pod);
    const { parts, place } = { parts: this.#parts, place: this.#place };
    this.#volumes = new PodVolumes(parts, place.folder, {
      podIp: place.ip,
      hostIp: parts.hostIp,
      node: parts.nodeName,
    });
    this.#publish();
    await this.#untilMounted();
    for (const run of this.#init) {
      if (isSidecar(run.spec)) await this.#startSidecar(run);
      else if (!(await this.#keeper.runToEnd(run))) return await this.#finish();
    }
    const ends: Promise<void>[] = [];
    for (const run of this.#main) {
      const { first, end } = this.#keeper.supervise(run);
      ends.push(end);
      await first;
    }
    await Promise.all(ends);
    if (!this.stopping) await this.#finish();
  }

  /** Waits until every volume is there. */
  async #untilMounted(): Promise<void> {
    for (;;) {
      const { signal } = this.#news;
      const problem = await this.#volumes!.refresh(this.#pod);
      this.#stopping.signal.throwIfAborted();
      if (problem === undefined) break;
      this.#parts.record(this.#pod, "Warning", "FailedMount", problem);
      for (const run of [...this.#init, ...this.#main].slice(0, 1)) run.wait("ContainerCreating", problem);
      await this.#keeper.pause(lookAgainMs, signal);
    }
    this.#mounted = true;
  }

  /** A sidecar is started and stays; the next container waits until it is up. */
  async #startSidecar(run: ContainerRun): Promise<void> {
    const { first } = this.#keeper.supervise(run);
    await first;
    while (!run.started) {
      this.#stopping.signal.throwIfAborted();
      await this.#changed();
    }
  }

  /** A probe gave it up: it is ended, and its supervisor starts it again. */
  async #replace(run: ContainerRun): Promise<void> {
    if (this.#over.signal.aborted) return;
    const message = `Container ${run.spec.name} failed its probe, will be restarted`;
    this.#parts.record(this.#pod, "Normal", "Killing", message);
    const graceMs = (this.#pod.spec.terminationGracePeriodSeconds ?? 30) * 1000;
    const deadline = new Deadline(this.#parts.clock, Math.max(leastGraceMs, graceMs));
    await run.stop(deadline);
    deadline.cancel();
  }

  /** All that was to be done is done: sidecars end, and the place is given back. The object stays until it is deleted. */
  async #finish(): Promise<void> {
    this.#over.abort(new Error("the pod has done its work"));
    const graceMs = (this.#pod.spec.terminationGracePeriodSeconds ?? 30) * 1000;
    const deadline = new Deadline(this.#parts.clock, Math.max(leastGraceMs, graceMs));
    await this.#stopSidecars(deadline);
    deadline.cancel();
    if (this.stopping) return;
    await this.#leave();
    this.#publish();
  }

  /** Those that were started last end first. */
  async #stopSidecars(deadline: Deadline): Promise<void> {
    for (const run of this.#init.toReversed()) await run.stop(deadline);
  }

  async #stop(graceMs: number, remove: boolean): Promise<void> {
    this.#stopping.abort(new Error("the pod is deleted"));
    this.#over.abort(this.#stopping.signal.reason);
    this.#news.abort();
    this.#wake();
    this.#publish();
    const deadline = new Deadline(this.#parts.clock, graceMs);
    this.#deadline = deadline;
    await Promise.all(this.#main.map((run) => run.stop(deadline)));
    await this.#stopSidecars(deadline);
    await this.#running;
    // What was just being started when the order came.
    for (const run of [...this.#main, ...this.#init]) await run.stop(deadline);
    deadline.cancel();
    await this.#leave();
    if (remove) await this.#status.remove();
    this.#status.close();
  }

  async #leave(): Promise<void> {
    const place = this.#place;
    this.#volumes?.close();
    this.#mounted = false;
    if (this.stopping) this.#place = undefined;
    await place?.close();
  }

  #changeWaiters: Array<() => void> = [];
  #changed(): Promise<void> {
    return new Promise((resolve) => this.#changeWaiters.push(resolve));
  }
  #wake(): void {
    const waiters = this.#changeWaiters;
    this.#changeWaiters = [];
    for (const wake of waiters) wake();
  }

  #publish(): void {
    this.#wake();
    this.#status?.write();
  }

  #statusNow(): Readonly<Record<string, unknown>> {
    const foreign = (this.#pod.status?.conditions ?? []).filter(
      ({ type }) => !this.#conditions.some((condition) => condition.type === type),
    );
    const facts = {
      pod: { ...this.#pod, status: { ...this.#pod.status, conditions: [...this.#conditions, ...foreign] } },
      init: this.#init.map((run) => run.facts),
      containers: this.#main.map((run) => run.facts),
      ip: this.#place?.ip,
      hostIp: this.#parts.hostIp,
      startedAt: this.#startedAt,
      stopping: this.stopping,
      now: this.#parts.clock.now(),
    };
    const status = podStatus(facts);
    const own = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    this.#conditions = (status["conditions"] as readonly PodCondition[]).filter(({ type }) => own.includes(type));
    return status;
  }
}
