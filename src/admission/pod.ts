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
