import { kubernetesServiceIp } from "./addresses.ts";
import { fieldValue, resourceValue } from "./downward.ts";
import type { ContainerSpec, EnvVar, PodObject, Values } from "./pod-object.ts";
import { expandVariables } from "./variables.ts";

/** ConfigMaps and Secrets of the pod's namespace by name; undefined for one that is not there. */
export interface ValueSource {
  configMap(name: string): Values | undefined;
  secret(name: string): Values | undefined;
}

export interface PlaceFacts {
  readonly podIp: string;
  readonly hostIp: string;
  readonly node: string;
}

export type Environment =
  | { readonly ok: true; readonly values: ReadonlyMap<string, string> }
  /** As a kubelet says it of a container that cannot be made. */
  | { readonly ok: false; readonly problem: string };

/** A container's variables: the cluster's, then those of `envFrom`, then its own, which may refer to those before. */
export function containerEnvironment(options: {
  readonly pod: PodObject;
  readonly container: ContainerSpec;
  readonly image: Readonly<Record<string, string>>;
  readonly source: ValueSource;
  readonly place: PlaceFacts;
}): Environment {
  const { pod, container, source } = options;
  const values = new Map<string, string>([
    ...Object.entries(options.image),
    ["HOSTNAME", pod.spec.hostname ?? pod.metadata.name],
    ...Object.entries(apiServerVariables),
  ]);
  for (const { prefix = "", configMapRef, secretRef } of container.envFrom ?? []) {
    const [kind, ref] = configMapRef ? (["configmap", configMapRef] as const) : (["secret", secretRef] as const);
    if (!ref) continue;
    const found = kind === "configmap" ? source.configMap(ref.name ?? "") : source.secret(ref.name ?? "");
    if (!found && !ref.optional) return { ok: false, problem: `${kind} "${ref.name}" not found` };
    for (const [key, value] of found ?? []) values.set(`${prefix}${key}`, value.toString("utf8"));
  }
  for (const variable of container.env ?? []) {
    if (!variable.valueFrom) {
      values.set(variable.name, expandVariables(variable.value ?? "", values));
      continue;
    }
    const read = referred(variable.valueFrom, options);
    if ("problem" in read) return { ok: false, problem: read.problem };
    if (read.value !== undefined) values.set(variable.name, read.value);
  }
  return { ok: true, values };
}

function referred(
  from: NonNullable<EnvVar["valueFrom"]>,
  { pod, container, source, place }: Parameters<typeof containerEnvironment>[0],
): { readonly value: string | undefined } | { readonly problem: string } {
  if (from.fieldRef) {
    const value = fieldValue(pod, from.fieldRef.fieldPath, place);
    return value === undefined ? { problem: `unsupported fieldPath: ${from.fieldRef.fieldPath}` } : { value };
  }
  if (from.resourceFieldRef) {
    const { containerName = container.name, resource, divisor } = from.resourceFieldRef;
    const whose = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find(
      ({ name }) => name === containerName,
    );
    const value = whose && resourceValue(whose, resource, divisor);
    return value === undefined ? { problem: `unsupported resource: ${resource}` } : { value };
  }
  const ref = from.configMapKeyRef ?? from.secretKeyRef;
  if (!ref) return { value: undefined };
  const kind = from.configMapKeyRef ? "ConfigMap" : "Secret";
  const found = from.configMapKeyRef ? source.configMap(ref.name ?? "") : source.secret(ref.name ?? "");
  const value = found?.get(ref.key);
  if (value !== undefined) return { value: value.toString("utf8") };
  if (ref.optional) return { value: undefined };
  if (!found) return { problem: `${kind.toLowerCase()} "${ref.name}" not found` };
  return { problem: `couldn't find key ${ref.key} in ${kind} ${pod.metadata.namespace}/${ref.name}` };
}

/** What every container is told of the Service `kubernetes`. */
const apiServerVariables: Readonly<Record<string, string>> = {
  KUBERNETES_SERVICE_HOST: kubernetesServiceIp,
  KUBERNETES_SERVICE_PORT: "443",
  KUBERNETES_SERVICE_PORT_HTTPS: "443",
  KUBERNETES_PORT: `tcp://${kubernetesServiceIp}:443`,
  KUBERNETES_PORT_443_TCP: `tcp://${kubernetesServiceIp}:443`,
  KUBERNETES_PORT_443_TCP_PROTO: "tcp",
  KUBERNETES_PORT_443_TCP_PORT: "443",
  KUBERNETES_PORT_443_TCP_ADDR: kubernetesServiceIp,
};
