import { injects } from "./decide.ts";
import { inject, type PodFacts } from "./inject.ts";
import type { Json, PodJson } from "./pod.ts";
import { readPod } from "./read-pod.ts";
import type { InjectionSettings } from "./settings.ts";

/** What became of one object of a manifest. */
export type TemplateInjection =
  | { readonly outcome: "injected"; readonly object: Json; readonly what: string; readonly warnings: readonly string[] }
  /** Passed on as it is: `why` is absent where it has no pods. */
  | { readonly outcome: "as-is"; readonly what: string; readonly why?: string; readonly warnings: readonly string[] }
  | { readonly outcome: "refused"; readonly what: string; readonly problems: readonly string[] };

/** Where the pod's template is in what makes pods. */
const places: Readonly<Record<string, readonly string[]>> = {
  Pod: [],
  Deployment: ["spec", "template"],
  StatefulSet: ["spec", "template"],
  DaemonSet: ["spec", "template"],
  ReplicaSet: ["spec", "template"],
  ReplicationController: ["spec", "template"],
  Job: ["spec", "template"],
  CronJob: ["spec", "jobTemplate", "spec", "template"],
};
const groups: readonly string[] = ["", "apps", "batch", "extensions"];

/** An object with a proxy in its pods, decided as the webhook does, but for the namespace's label, which nobody knows here. */
export function injectTemplate(
  object: Json,
  settings: InjectionSettings,
  facts: Pick<PodFacts, "serverVersion"> & { readonly namespace: string },
): TemplateInjection {
  const { kind, apiVersion } = object;
  const metadata = (object["metadata"] ?? {}) as { readonly name?: unknown; readonly namespace?: unknown };
  const what = `${String(kind)} ${typeof metadata.name === "string" ? metadata.name : "without a name"}`;
  const group = String(apiVersion ?? "").includes("/") ? String(apiVersion).split("/")[0]! : "";
  const path =
    typeof kind === "string" && groups.includes(group) && Object.hasOwn(places, kind) ? places[kind] : undefined;
  if (path === undefined) return { outcome: "as-is", what, warnings: [] };
  const reading = readPod(path.reduce<unknown>((value, key) => (value as Json | null | undefined)?.[key], object));
  if ("problem" in reading)
    return { outcome: "refused", what, problems: [`${path.join(".") || "the object"}: ${reading.problem}`] };
  const namespace = typeof metadata.namespace === "string" ? metadata.namespace : facts.namespace;
  const decision = injects(reading.pod, namespace, settings);
  if (!decision.inject) {
    const warnings = decision.odd ? [decision.detail] : [];
    return { outcome: "as-is", what, why: decision.detail, warnings };
  }
  const workload = typeof metadata.name === "string" ? { workload: metadata.name } : {};
  const injection = inject(reading.pod, settings, { serverVersion: facts.serverVersion, ...workload });
  if (injection.outcome === "refused") return { outcome: "refused", what, problems: injection.problems };
  if (injection.outcome === "already") return { outcome: "as-is", what, why: "it has a proxy already", warnings: [] };
  return { outcome: "injected", what, object: put(object, path, injection.pod), warnings: injection.warnings };
}

/** The object with another value at a path that is there. */
function put(object: Json, [key, ...rest]: readonly string[], pod: PodJson): Json {
  if (key === undefined) return pod;
  return { ...object, [key]: put(object[key] as Json, rest, pod) };
}

/** All objects of a document: those of a `List`, and of lists in it, in the place where they were. Throws nothing. */
export function mapObjects(value: unknown, change: (object: Json) => Json): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const object = value as Json;
  const items = object["items"];
  if (typeof object["kind"] === "string" && object["kind"].endsWith("List") && Array.isArray(items))
    return { ...object, items: items.map((item) => mapObjects(item, change)) };
  return change(object);
}
