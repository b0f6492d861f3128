import { type ContainerSpec, isSidecar, type PodCondition, type PodObject } from "./pod-object.ts";

export interface Terminated {
  readonly kind: "terminated";
  readonly exitCode: number;
  readonly signal?: number;
  readonly reason: string;
  readonly message?: string;
  /** Milliseconds since the Unix epoch, as all times here. */
  readonly startedAt: number;
  readonly finishedAt: number;
}

export type ContainerState =
  | { readonly kind: "waiting"; readonly reason: string; readonly message?: string }
  | { readonly kind: "running"; readonly startedAt: number }
  | Terminated;

/** One container as it is. */
export interface ContainerFacts {
  readonly spec: ContainerSpec;
  readonly state: ContainerState;
  /** How the run before ended. */
  readonly last: Terminated | undefined;
  readonly restarts: number;
  /** Its startup probe, or its start where it has none, is past. */
  readonly started: boolean;
  /** Its readiness probe passes; without one, it is started. */
  readonly ready: boolean;
}

export interface PodFacts {
  readonly pod: PodObject;
  readonly init: readonly ContainerFacts[];
  readonly containers: readonly ContainerFacts[];
  /** Undefined as long as it has no place in the network. */
  readonly ip: string | undefined;
  readonly hostIp: string;
  readonly startedAt: number;
  /** It is being deleted: callers are told so, and nothing is started again. */
  readonly stopping: boolean;
  /** Why it failed as a whole, if not for its containers. */
  readonly failed?: { readonly reason: string; readonly message: string };
  readonly now: number;
}

export type Phase = "Pending" | "Running" | "Succeeded" | "Failed";

/** The status of a Pod as a kubelet would write it. Conditions that others wrote stay. */
export function podStatus(facts: PodFacts): Readonly<Record<string, unknown>> {
  const { pod, ip, hostIp } = facts;
  const phase = podPhase(facts);
  return {
    phase,
    ...(facts.failed ?? {}),
    conditions: conditions(facts, phase),
    hostIP: hostIp,
    hostIPs: [{ ip: hostIp }],
    ...(ip === undefined ? {} : { podIP: ip, podIPs: [{ ip }] }),
    startTime: time(facts.startedAt),
    ...(pod.spec.initContainers?.length ? { initContainerStatuses: facts.init.map(initStatus) } : {}),
    containerStatuses: facts.containers.map(containerStatus),
  };
}

export function podPhase({ pod, init, containers, failed, stopping }: PodFacts): Phase {
  const policy = pod.spec.restartPolicy ?? "Always";
  if (failed) return "Failed";
  for (const { spec, state, last } of init) {
    if (isSidecar(spec)) continue;
    const end = state.kind === "terminated" ? state : state.kind === "waiting" ? last : undefined;
    if (end !== undefined && end.exitCode !== 0 && (policy === "Never" || (stopping && state.kind === "terminated")))
      return "Failed";
    if (state.kind !== "terminated" || state.exitCode !== 0) return "Pending";
  }
  if (containers.some(({ state, last }) => state.kind === "waiting" && last === undefined)) return "Pending";
  const ends = containers.flatMap(({ state }) => (state.kind === "terminated" ? [state] : []));
  if (ends.length < containers.length) return "Running";
  const good = ends.every(({ exitCode }) => exitCode === 0);
  if (stopping) return good ? "Succeeded" : "Failed";
  if (policy === "Always") return "Running";
  if (good) return "Succeeded";
  return policy === "Never" ? "Failed" : "Running";
}

function conditions(facts: PodFacts, phase: Phase): readonly PodCondition[] {
  const { pod, init, containers, ip } = facts;
  const uninitialized = init.filter(({ spec, state, started }) =>
    isSidecar(spec) ? !started && phase === "Pending" : state.kind !== "terminated" || state.exitCode !== 0,
  );
  const unready = [...init.filter(({ spec }) => isSidecar(spec)), ...containers].filter(({ ready }) => !ready);
  const done = phase === "Succeeded" || phase === "Failed";
  const ready: Pick<PodCondition, "status" | "reason" | "message"> = done
    ? { status: "False", reason: phase === "Succeeded" ? "PodCompleted" : "PodFailed" }
    : unready.length > 0
      ? { status: "False", reason: "ContainersNotReady", message: named("containers with unready status", unready) }
      : { status: "True" };
  const own: Array<Pick<PodCondition, "type" | "status" | "reason" | "message">> = [
    { type: "PodReadyToStartContainers", status: ip === undefined || done ? "False" : "True" },
    {
      type: "Initialized",
      ...(uninitialized.length === 0
        ? { status: "True" as const, ...(phase === "Succeeded" ? { reason: "PodCompleted" } : {}) }
        : {
            status: "False" as const,
            reason: "ContainersNotInitialized",
            message: named("containers with incomplete status", uninitialized),
          }),
    },
    { type: "Ready", ...ready },
    { type: "ContainersReady", ...ready },
    { type: "PodScheduled", status: "True" },
  ];
  const before = pod.status?.conditions ?? [];
  const mine = own.map((condition): PodCondition => {
    const old = before.find(({ type }) => type === condition.type);
    const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
    return { ...condition, lastTransitionTime: since ?? time(facts.now) };
  });
  return [...mine, ...before.filter(({ type }) => !own.some((condition) => condition.type === type))];
}

function named(what: string, containers: readonly ContainerFacts[]): string {
  return `${what}: [${containers.map(({ spec }) => spec.name).join(" ")}]`;
}

/** An init container is ready when it has ended well; one that stays is as any other. */
function initStatus(facts: ContainerFacts): Readonly<Record<string, unknown>> {
  const { spec, state } = facts;
  if (isSidecar(spec)) return containerStatus(facts);
  const ready = state.kind === "terminated" && state.exitCode === 0;
  return { ...containerStatus(facts), ready, started: false };
}

function containerStatus(facts: ContainerFacts): Readonly<Record<string, unknown>> {
  const { spec, state, last, restarts, ready, started } = facts;
  return {
    name: spec.name,
    image: spec.image,
    imageID: "",
    ready,
    started,
    restartCount: restarts,
    state: written(state),
    lastState: last === undefined ? {} : written(last),
  };
}

function written(state: ContainerState): Readonly<Record<string, unknown>> {
  switch (state.kind) {
    case "waiting":
      return { waiting: { reason: state.reason, ...(state.message === undefined ? {} : { message: state.message }) } };
    case "running":
      return { running: { startedAt: time(state.startedAt) } };
    case "terminated": {
      const { exitCode, signal, reason, message, startedAt, finishedAt } = state;
      return {
        terminated: {
          exitCode,
          ...(signal === undefined ? {} : { signal }),
          reason,
          ...(message === undefined ? {} : { message }),
          startedAt: time(startedAt),
          finishedAt: time(finishedAt),
        },
      };
    }
  }
}

/** Kubernetes' times have whole seconds. */
export function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** Whether a container that ended is to run again. */
export function runsAgain(container: { readonly restartPolicy?: "Always" }, policy: string, exitCode: number): boolean {
  if (container.restartPolicy === "Always" || policy === "Always") return true;
  return policy === "OnFailure" && exitCode !== 0;
}
