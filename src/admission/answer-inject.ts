import { injects } from "./decide.ts";
import { inject } from "./inject.ts";
import { jsonPatch } from "./patch.ts";
import { readPod } from "./read-pod.ts";
import type { AdmissionAnswer, AdmissionRequest } from "./review.ts";
import type { ServerVersion } from "./server-version.ts";
import type { InjectionSettings } from "./settings.ts";

/** How a request ended, for who counts and logs. */
export type InjectOutcome = "injected" | "already" | "left-alone" | "denied" | "not-a-pod";

export interface InjectAnswer {
  readonly answer: AdmissionAnswer;
  readonly outcome: InjectOutcome;
  /** What decided, in words. */
  readonly why: string;
}

/** What the API server is told of a pod that is about to be made. Depends on its arguments alone: a dry run is like any other. */
export function answerInject(
  request: AdmissionRequest,
  settings: InjectionSettings,
  facts: { readonly serverVersion: ServerVersion | undefined },
): InjectAnswer {
  const { kind, operation, subResource } = request;
  if (kind.group !== "" || kind.kind !== "Pod" || operation !== "CREATE" || subResource !== "")
    return { answer: { allowed: true }, outcome: "not-a-pod", why: "only pods that are made are injected" };
  const reading = readPod(request.object);
  if ("problem" in reading) return denied([reading.problem], 422);
  const { pod } = reading;
  const namespace = request.namespace || pod.metadata?.namespace || "default";
  const decision = injects(pod, namespace, settings);
  if (!decision.inject) {
    const warnings = decision.odd ? [`no proxy is injected: ${decision.detail}`] : [];
    return { answer: { allowed: true, warnings }, outcome: "left-alone", why: decision.detail };
  }
  const injection = inject(pod, settings, facts);
  if (injection.outcome === "refused") return denied(injection.problems, 422);
  if (injection.outcome === "already") return { answer: { allowed: true }, outcome: "already", why: "it has a proxy" };
  const patch = jsonPatch(request.object, injection.pod);
  return { answer: { allowed: true, patch, warnings: injection.warnings }, outcome: "injected", why: decision.by };
}

function denied(problems: readonly string[], code: number): InjectAnswer {
  const message = `no proxy can be injected into the pod: ${problems.join("; ")}`;
  return { answer: { allowed: false, message, code }, outcome: "denied", why: message };
}
