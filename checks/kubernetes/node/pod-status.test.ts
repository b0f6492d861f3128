import { describe, expect, test } from "vitest";
import type { PodCondition, PodObject } from "./pod-object.ts";
import { type ContainerFacts, type ContainerState, podPhase, podStatus, runsAgain } from "./pod-status.ts";

const running: ContainerState = { kind: "running", startedAt: 1_000 };
const waiting: ContainerState = { kind: "waiting", reason: "PodInitializing" };
const ended = (exitCode: number) =>
  ({
    kind: "terminated",
    exitCode,
    reason: exitCode === 0 ? "Completed" : "Error",
    startedAt: 1_000,
    finishedAt: 2_000,
  }) as const;
const crashing: ContainerState = { kind: "waiting", reason: "CrashLoopBackOff" };

function container(state: ContainerState, more: Partial<ContainerFacts> & { sidecar?: boolean } = {}): ContainerFacts {
  const { sidecar, ...rest } = more;
  const up = state.kind === "running";
  return {
    spec: { name: "c", image: "x", ...(sidecar ? { restartPolicy: "Always" as const } : {}) },
    state,
    last: undefined,
    restarts: 0,
    started: up,
    ready: up,
    ...rest,
  };
}

function facts(options: {
  init?: readonly ContainerFacts[];
  containers: readonly ContainerFacts[];
  policy?: "Always" | "OnFailure" | "Never";
  stopping?: boolean;
  conditions?: readonly PodCondition[];
}) {
  const { init = [], containers, policy = "Always", stopping = false, conditions = [] } = options;
  const pod: PodObject = {
    metadata: { name: "p", namespace: "n", uid: "u" },
    spec: {
      restartPolicy: policy,
      containers: containers.map(({ spec }) => spec),
      initContainers: init.map(({ spec }) => spec),
    },
    status: { conditions },
  };
  return { pod, init, containers, ip: "10.244.0.10", hostIp: "172.30.1.1", startedAt: 500, stopping, now: 5_000 };
}

describe("the phase", () => {
  const rows: ReadonlyArray<readonly [string, Parameters<typeof facts>[0], string]> = [
    ["nothing started", { containers: [container(waiting)] }, "Pending"],
    ["an init container runs", { init: [container(running)], containers: [container(waiting)] }, "Pending"],
    [
      "an init container failed and runs again",
      { init: [container(crashing, { last: ended(1) })], containers: [container(waiting)] },
      "Pending",
    ],
    [
      "an init container failed for ever",
      { init: [container(ended(1))], containers: [container(waiting)], policy: "Never" },
      "Failed",
    ],
    [
      "a sidecar runs, nothing else yet",
      { init: [container(running, { sidecar: true })], containers: [container(waiting)] },
      "Pending",
    ],
    ["all run", { init: [container(ended(0))], containers: [container(running)] }, "Running"],
    [
      "one waits to run again",
      { containers: [container(running), container(crashing, { last: ended(1) })] },
      "Running",
    ],
    ["one was never started", { containers: [container(running), container(waiting)] }, "Pending"],
    ["ended, and will run again", { containers: [container(ended(0))] }, "Running"],
    ["ended well", { containers: [container(ended(0))], policy: "OnFailure" }, "Succeeded"],
    ["ended badly, and will run again", { containers: [container(ended(1))], policy: "OnFailure" }, "Running"],
    ["ended badly for ever", { containers: [container(ended(1)), container(ended(0))], policy: "Never" }, "Failed"],
    ["one of two ended", { containers: [container(ended(0)), container(running)], policy: "Never" }, "Running"],
    ["deleted, ended by its signal", { containers: [container(ended(143))], stopping: true }, "Failed"],
    ["deleted, still running", { containers: [container(running)], stopping: true }, "Running"],
  ];
  test.each(rows)("%s", (_, options, phase) => expect(podPhase(facts(options))).toBe(phase));
});

describe("conditions", () => {
  const conditionsOf = (options: Parameters<typeof facts>[0]) =>
    podStatus(facts(options))["conditions"] as readonly PodCondition[];
  const statusOf = (options: Parameters<typeof facts>[0], wanted: string) =>
    conditionsOf(options).find(({ type }) => type === wanted);

  test("a pod is ready when its containers and its sidecars are", () => {
    const both = (sidecar: Partial<ContainerFacts>) => ({
      init: [container(running, { sidecar: true, ...sidecar })],
      containers: [container(running)],
    });
    expect(statusOf(both({}), "Ready")).toMatchObject({ status: "True" });
    expect(statusOf(both({ ready: false }), "Ready")).toMatchObject({
      status: "False",
      reason: "ContainersNotReady",
      message: "containers with unready status: [c]",
    });
  });

  test("it is initialised when init containers have ended and sidecars have started", () => {
    const one = (init: ContainerFacts) =>
      statusOf({ init: [init], containers: [container(waiting)] }, "Initialized")?.status;
    expect(one(container(running))).toBe("False");
    expect(one(container(ended(0)))).toBe("True");
    expect(one(container(running, { sidecar: true, started: false }))).toBe("False");
    expect(one(container(running, { sidecar: true }))).toBe("True");
  });

  test("the time is that of the last turn; what others wrote stays", () => {
    const before: readonly PodCondition[] = [
      { type: "Ready", status: "True", lastTransitionTime: "2020-01-01T00:00:00Z" },
      { type: "ContainersReady", status: "False", lastTransitionTime: "2020-01-01T00:00:00Z" },
      { type: "DisruptionTarget", status: "True", reason: "Evicted" },
    ];
    const all = conditionsOf({ containers: [container(running)], conditions: before });
    expect(all.find(({ type }) => type === "Ready")?.lastTransitionTime).toBe("2020-01-01T00:00:00Z");
    expect(all.find(({ type }) => type === "ContainersReady")?.lastTransitionTime).toBe("1970-01-01T00:00:05Z");
    expect(all.at(-1)).toEqual(before[2]);
  });
});

test("container states are written with whole seconds", () => {
  const status = podStatus(facts({ containers: [container(crashing, { last: ended(3), restarts: 2 })] }));
  expect(status["containerStatuses"]).toEqual([
    expect.objectContaining({
      restartCount: 2,
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: {
        terminated: {
          exitCode: 3,
          reason: "Error",
          startedAt: "1970-01-01T00:00:01Z",
          finishedAt: "1970-01-01T00:00:02Z",
        },
      },
    }),
  ]);
});

test.each([
  ["Always", 0, true],
  ["OnFailure", 0, false],
  ["OnFailure", 1, true],
  ["Never", 1, false],
])("with policy %s and exit code %i it runs again: %s", (policy, code, again) => {
  expect(runsAgain({}, policy, code)).toBe(again);
  expect(runsAgain({ restartPolicy: "Always" }, policy, code)).toBe(true);
});
