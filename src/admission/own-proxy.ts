import type { ContainerJson, Json } from "./pod.ts";

/** What a container of the pod's own named `istio-proxy` may not say, since all that injection does hangs on it. */
const fixed = ["command", "args", "restartPolicy"] as const;
/** Lists whose entries are known by a key: an entry of the pod's own stands in the place of ours. */
const keyed: Readonly<Record<string, string>> = { env: "name", volumeMounts: "mountPath", ports: "containerPort" };

/**
 * Our container with what a pod's own container of that name says over it: people write one to change its image,
 * resources, environment, mounts or probes. Complains of what it must not say.
 */
export function mergeOwnProxy(
  ours: ContainerJson,
  own: ContainerJson,
  complain: (problem: string) => void,
): ContainerJson {
  const merged: Record<string, unknown> = { ...ours };
  for (const [key, value] of Object.entries(own)) {
    if (value === null || value === undefined || key === "name" || isEmpty(value)) continue;
    if ((fixed as readonly string[]).includes(key)) {
      complain(`container "istio-proxy": must not have ${key}; what is there of it is put over the injected one's`);
    } else if (key === "image") {
      if (value !== "auto") merged[key] = value;
    } else if (key === "imagePullPolicy") {
      // The API server fills it in by the image that stands there, which is not the one that is run.
      if (own["image"] !== undefined && own["image"] !== "auto" && own["image"] !== "") merged[key] = value;
    } else if (keyed[key] !== undefined && Array.isArray(value)) {
      merged[key] = mergeLists((ours[key] ?? []) as readonly Json[], value as readonly Json[], keyed[key]);
    } else if (key === "securityContext") {
      merged[key] = { ...ours.securityContext, ...(value as Json) };
    } else merged[key] = value;
  }
  return merged;
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

function mergeLists(ours: readonly Json[], own: readonly Json[], key: string): readonly Json[] {
  const replaced = new Set(own.map((entry) => entry[key]));
  return [...ours.filter((entry) => !replaced.has(entry[key])), ...own];
}
