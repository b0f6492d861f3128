/**
 * A pod as far as injection looks at it. All else that stands in one is passed on as it is, known here or not: a pod's
 * form is Kubernetes' to judge.
 */
export interface PodJson extends Json {
  readonly metadata?: PodMetadata;
  readonly spec?: PodSpecJson;
}

export type Json = { readonly [key: string]: unknown };

export interface PodMetadata extends Json {
  readonly name?: string;
  readonly generateName?: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface PodSpecJson extends Json {
  readonly hostNetwork?: boolean;
  readonly containers?: readonly ContainerJson[];
  readonly initContainers?: readonly ContainerJson[];
  readonly volumes?: readonly Json[];
  readonly dnsConfig?: { readonly searches?: readonly string[] } & Json;
  readonly securityContext?: Json;
  readonly imagePullSecrets?: readonly Json[];
}

export interface ContainerJson extends Json {
  readonly name?: string;
  readonly ports?: ReadonlyArray<{ readonly name?: string; readonly containerPort?: number } & Json>;
  readonly restartPolicy?: string;
  readonly securityContext?: Json;
  readonly readinessProbe?: ProbeJson;
  readonly livenessProbe?: ProbeJson;
  readonly startupProbe?: ProbeJson;
}

export interface ProbeJson extends Json {
  readonly httpGet?: {
    readonly path?: string;
    readonly port?: number | string;
    readonly host?: string;
    readonly scheme?: string;
    readonly httpHeaders?: ReadonlyArray<{ readonly name: string; readonly value: string }>;
  };
  readonly tcpSocket?: { readonly port?: number | string; readonly host?: string };
  readonly grpc?: { readonly port?: number; readonly service?: string | null };
  readonly timeoutSeconds?: number;
}

/** What a pod must be for any of this to make sense: an object of objects, lists of objects, maps of text. */
export function readPod(value: unknown): { readonly pod: PodJson } | { readonly problem: string } {
  const problems: string[] = [];
  const wants = (item: unknown, at: string, kind: "object" | "list" | "texts", required = false) => {
    if (item === undefined || item === null) {
      if (required) problems.push(`${at} is required`);
      return;
    }
    const list = Array.isArray(item);
    const fits = kind === "list" ? list : typeof item === "object" && !list;
    if (!fits) problems.push(`${at} must be ${kind === "list" ? "a list" : "an object"}`);
    else if (kind === "texts" && Object.values(item).some((text) => typeof text !== "string"))
      problems.push(`${at} must hold text only`);
    else if (
      kind === "list" &&
      (item as readonly unknown[]).some((one) => typeof one !== "object" || one === null || Array.isArray(one))
    )
      problems.push(`${at} must hold objects only`);
  };
  wants(value, "the pod", "object", true);
  if (problems.length > 0) return { problem: problems.join("; ") };
  const { metadata, spec } = value as PodJson;
  wants(metadata, "metadata", "object");
  wants(spec, "spec", "object", true);
  if (problems.length > 0) return { problem: problems.join("; ") };
  wants(metadata?.labels, "metadata.labels", "texts");
  wants(metadata?.annotations, "metadata.annotations", "texts");
  for (const name of ["containers", "initContainers", "volumes", "imagePullSecrets"] as const)
    wants(spec?.[name], `spec.${name}`, "list");
  for (const name of ["containers", "initContainers"] as const) {
    if (!Array.isArray(spec?.[name])) continue;
    for (const [index, container] of spec[name].entries()) {
      const at = `spec.${name}[${index}]`;
      wants(container.ports, `${at}.ports`, "list");
      wants(container.securityContext, `${at}.securityContext`, "object");
      for (const probe of ["readinessProbe", "livenessProbe", "startupProbe"] as const) {
        const written = container[probe];
        wants(written, `${at}.${probe}`, "object");
        for (const way of ["httpGet", "tcpSocket", "grpc"] as const)
          wants(written?.[way], `${at}.${probe}.${way}`, "object");
      }
    }
  }
  wants(spec?.dnsConfig, "spec.dnsConfig", "object");
  wants(spec?.securityContext, "spec.securityContext", "object");
  const searches: unknown = spec?.dnsConfig?.searches;
  if (
    searches !== undefined &&
    searches !== null &&
    !(Array.isArray(searches) && searches.every((one) => typeof one === "string"))
  )
    problems.push("spec.dnsConfig.searches must be a list of text");
  return problems.length > 0 ? { problem: problems.join("; ") } : { pod: value as PodJson };
}
