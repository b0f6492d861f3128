import { Failure, sleep } from "../../base/index.ts";
import type { KubeObject, ObjectApi } from "../../kube/index.ts";
import type { Target, Tell } from "./target.ts";

const lookMs = 1_000;

interface DeploymentState {
  readonly metadata: { readonly generation?: number };
  readonly spec?: {
    readonly replicas?: number;
    readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly conditions?: readonly Condition[];
  };
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

/** How far a Deployment is: all pods new and ready, or how many are missing. */
export function rolloutOf(deployment: DeploymentState): {
  readonly done: boolean;
  readonly ready: number;
  readonly wanted: number;
} {
  const { status = {}, spec, metadata } = deployment;
  const wanted = spec?.replicas ?? 1;
  const seen = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const updated = seen ? (status.updatedReplicas ?? 0) : 0;
  const ready = Math.min(status.availableReplicas ?? 0, updated);
  return { done: seen && updated === wanted && ready === wanted && (status.replicas ?? 0) === wanted, ready, wanted };
}

/**
 * Waits until all pods of a Deployment are new and ready. Throws `install/rollout` when `deadlineMs` (monotonic) is over,
 * with the reason of the pods that did not come up.
 */
export async function waitForRollout(
  target: Target,
  wanted: { readonly namespace: string; readonly name: string; readonly deadlineMs: number },
  tell: Tell,
): Promise<void> {
  const { api, clock, signal } = target;
  const { namespace, name, deadlineMs } = wanted;
  for (;;) {
    const found = await api.get({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name, namespace } });
    if (!found) throw new Failure("install/rollout", `Deployment ${namespace}/${name} was deleted meanwhile`);
    const deployment = found as unknown as DeploymentState;
    const { done, ready, wanted: count } = rolloutOf(deployment);
    if (done) return;
    const why = await whyNot(api, deployment, namespace);
    tell({
      kind: "waiting",
      text: `Deployment ${name}: ${ready} of ${count} pods ready${why === undefined ? "" : `: ${why.text}`}`,
    });
    if (clock.monotonic() >= deadlineMs) {
      throw new Failure(
        "install/rollout",
        `Deployment ${namespace}/${name} did not come up: ${ready} of ${count} pods ready${why === undefined ? "" : `: ${why.text}`}`,
        {
          hint:
            why?.hint ??
            `kubectl -n ${namespace} describe pods -l app=${name} shows more; run the same command again to go on`,
        },
      );
    }
    await sleep(clock, lookMs, signal);
  }
}

interface Why {
  readonly text: string;
  readonly hint?: string;
}

async function whyNot(api: ObjectApi, deployment: DeploymentState, namespace: string): Promise<Why | undefined> {
  const failed = deployment.status?.conditions?.find(
    ({ type, status }) => type === "ReplicaFailure" && status === "True",
  );
  if (failed) return { text: `its pods cannot be made: ${failed.message ?? failed.reason}` };
  const labels = Object.entries(deployment.spec?.selector?.matchLabels ?? {});
  const selector = labels.map(([key, value]) => `${key}=${value}`).join(",");
  const pods = await api.list({ apiVersion: "v1", kind: "Pod", namespace }, selector);
  const late = pods.filter((pod) => !isReady(pod as unknown as PodState));
  const reasons = late.map((pod) => podReason(pod as unknown as PodState)).filter((why) => why !== undefined);
  const [worst] = reasons.sort((a, b) => a.rank - b.rank);
  if (worst === undefined || worst.rank < 5) return worst;
  // The pod itself says nothing yet: volumes that cannot be mounted are told in events, and so is a cluster without nodes.
  const events = await api.list({ apiVersion: "v1", kind: "Event", namespace });
  const names = new Set(late.map(({ metadata }) => metadata.name));
  const warning = events
    .map((event) => event as unknown as EventState)
    .filter(({ type, involvedObject }) => type === "Warning" && names.has(involvedObject?.name ?? ""))
    .at(-1);
  if (warning) return { text: `${warning.involvedObject?.name}: ${warning.reason}: ${oneLine(warning.message ?? "")}` };
  const nodes = await api.list({ apiVersion: "v1", kind: "Node" }).catch(() => undefined);
  if (nodes?.length === 0)
    return { text: "the cluster has no node that could run them", hint: "add a node, then run the same command again" };
  return worst;
}

interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: Terminated;
  };
  readonly lastState?: { readonly terminated?: Terminated };
}

interface Terminated {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
}

interface PodState {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly Condition[];
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
  };
}

interface EventState {
  readonly type?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly involvedObject?: { readonly name?: string };
}

function isReady({ status, metadata }: PodState): boolean {
  if (metadata.deletionTimestamp !== undefined) return true;
  return status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false;
}

const imageTrouble = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];

/** Why a pod is not ready; what a person must mend goes first. */
export function podReason({
  metadata: { name },
  status = {},
}: PodState): (Why & { readonly rank: number }) | undefined {
  const containers = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  for (const { name: container, state, lastState } of containers) {
    const { waiting } = state ?? {};
    const ended = lastState?.terminated ?? state?.terminated;
    if (waiting?.reason !== undefined && imageTrouble.includes(waiting.reason)) {
      return {
        rank: 0,
        text: `${name}: the image of ${container} cannot be had: ${waiting.reason}: ${oneLine(waiting.message ?? "")}`,
        hint: "is it pushed, are hub and tag right, does it need imagePullSecrets?",
      };
    }
    if (waiting?.reason === "CreateContainerConfigError" || waiting?.reason === "CreateContainerError")
      return { rank: 1, text: `${name}: ${container} cannot be made: ${oneLine(waiting.message ?? waiting.reason)}` };
    if (ended && (ended.exitCode ?? 0) !== 0) {
      const last = lastLine(ended.message ?? "");
      return {
        rank: 2,
        text: `${name}: ${container} ended with code ${ended.exitCode}${last === "" ? "" : `: ${last}`}`,
        hint: `kubectl logs --previous shows all that it said`,
      };
    }
  }
  const unscheduled = status.conditions?.find(({ type, status: is }) => type === "PodScheduled" && is === "False");
  if (unscheduled) return { rank: 3, text: `${name}: no node takes it: ${oneLine(unscheduled.message ?? "")}` };
  if (status.message) return { rank: 4, text: `${name}: ${status.reason ?? "failed"}: ${oneLine(status.message)}` };
  const running = containers.find(({ ready }) => ready === false);
  if (status.phase === "Running")
    return { rank: 6, text: `${name}: ${running?.name ?? "a container"} is not ready yet` };
  return { rank: 7, text: `${name}: ${running?.state?.waiting?.reason ?? `phase ${status.phase ?? "unknown"}`}` };
}

function lastLine(text: string): string {
  return oneLine(text.trimEnd().split("\n").at(-1) ?? "");
}

/** What a server or a program says must not be able to begin a line of its own. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is struck out
  const plain = text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
  return plain.trim().slice(0, 500);
}

export function isDeploymentReady(object: KubeObject): boolean {
  return rolloutOf(object as unknown as DeploymentState).done;
}
