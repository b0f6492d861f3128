import type { ContainerJson, Json, PodJson, ProbeJson } from "./pod.ts";

const lists = ["containers", "initContainers", "volumes", "imagePullSecrets"] as const;
const objects = ["dnsConfig", "securityContext"] as const;
const probes = ["readinessProbe", "livenessProbe", "startupProbe"] as const;
const ways = ["httpGet", "tcpSocket", "grpc"] as const;

/**
 * A pod, if what injection looks at in it has the form that it needs: objects, lists of objects, maps of text. What is
 * null is absent, as Kubernetes has it. Everything that is wrong is said at once.
 */
export function readPod(value: unknown): { readonly pod: PodJson } | { readonly problem: string } {
  const problems: string[] = [];
  const wants = (item: unknown, at: string, kind: "object" | "list" | "texts" | "texts list"): boolean => {
    if (item === undefined) return true;
    const before = problems.length;
    const list = kind === "list" || kind === "texts list";
    if (list ? !Array.isArray(item) : !isObject(item)) problems.push(`${at} must be ${list ? "a list" : "an object"}`);
    else if (kind === "list" && !(item as readonly unknown[]).every(isObject))
      problems.push(`${at} must hold objects only`);
    else if (kind.startsWith("texts") && Object.values(item as object).some((text) => typeof text !== "string"))
      problems.push(`${at} must hold text only`);
    return problems.length === before;
  };

  const readContainer = (container: ContainerJson, at: string): ContainerJson => {
    const read = withoutNulls(container, ["name", "ports", "securityContext", ...probes]);
    if (read.name !== undefined && typeof read.name !== "string") problems.push(`${at}.name must be text`);
    wants(read.ports, `${at}.ports`, "list");
    wants(read.securityContext, `${at}.securityContext`, "object");
    const changed: { [K in (typeof probes)[number]]?: ProbeJson } = {};
    for (const name of probes) {
      if (read[name] === undefined || !wants(read[name], `${at}.${name}`, "object")) continue;
      const probe = withoutNulls(read[name], [...ways, "timeoutSeconds"]);
      for (const way of ways) wants(probe[way], `${at}.${name}.${way}`, "object");
      changed[name] = probe;
    }
    return { ...read, ...changed };
  };

  if (!isObject(value)) return { problem: "must be an object" };
  const pod = withoutNulls(value as PodJson, ["metadata", "spec"]);
  if (pod.spec === undefined) problems.push("spec is required");
  if (!wants(pod.metadata, "metadata", "object") || !wants(pod.spec, "spec", "object") || pod.spec === undefined)
    return { problem: problems.join("; ") };
  const metadata = withoutNulls(pod.metadata ?? {}, ["name", "generateName", "namespace", "labels", "annotations"]);
  for (const name of ["name", "generateName", "namespace"] as const)
    if (metadata[name] !== undefined && typeof metadata[name] !== "string")
      problems.push(`metadata.${name} must be text`);
  for (const name of ["labels", "annotations"] as const) wants(metadata[name], `metadata.${name}`, "texts");
  const spec = withoutNulls(pod.spec, [...lists, ...objects]);
  const containers: { [K in "containers" | "initContainers"]?: readonly ContainerJson[] } = {};
  for (const name of lists) {
    if (!wants(spec[name], `spec.${name}`, "list") || (name !== "containers" && name !== "initContainers")) continue;
    const read = spec[name]?.map((container, index) => readContainer(container, `spec.${name}[${index}]`));
    if (read) containers[name] = read;
  }
  for (const name of objects) wants(spec[name], `spec.${name}`, "object");
  if (isObject(spec.dnsConfig)) wants(spec.dnsConfig["searches"] ?? undefined, "spec.dnsConfig.searches", "texts list");
  if (problems.length > 0) return { problem: problems.join("; ") };
  return { pod: { ...pod, ...(pod.metadata === undefined ? {} : { metadata }), spec: { ...spec, ...containers } } };
}

/** Without the named entries where they are null. */
function withoutNulls<T extends Json>(json: T, names: readonly (keyof T & string)[]): T {
  return Object.fromEntries(Object.entries(json).filter(([key, item]) => item !== null || !names.includes(key))) as T;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
