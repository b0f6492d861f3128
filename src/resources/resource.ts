import type { z } from "zod";
import type { Labels, Origin } from "../values/index.ts";
import type { Frozen } from "./frozen.ts";
import { type Kind, kinds } from "./kinds.ts";

export interface Metadata {
  readonly name: string;
  /** Empty for kinds that belong to no namespace. */
  readonly namespace: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  /** Milliseconds since the Unix epoch; only an API server gives one. */
  readonly creationTimestamp?: number;
  readonly deletionTimestamp?: number;
  readonly uid?: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
}

/**
 * An object of one kind, read and found good: frozen all the way down. Its fields have the names of the YAML; values
 * are parsed (durations are milliseconds), and what the API gives a default has it.
 */
export type ResourceOf<K extends Kind> = K extends Kind
  ? { readonly kind: K; readonly apiVersion: string; readonly metadata: Metadata; readonly origin: Origin } & Frozen<
      z.output<(typeof kinds)[K]["schema"]>
    >
  : never;
export type Resource = ResourceOf<Kind>;

export type ServiceEntry = ResourceOf<"ServiceEntry">;
export type ServiceEntrySpec = ServiceEntry["spec"];
export type WorkloadEntry = ResourceOf<"WorkloadEntry">;
/** An endpoint of a ServiceEntry, and the spec of a WorkloadEntry. */
export type WorkloadEntrySpec = WorkloadEntry["spec"];
export type Gateway = ResourceOf<"Gateway">;
export type GatewaySpec = Gateway["spec"];
export type VirtualService = ResourceOf<"VirtualService">;
export type VirtualServiceSpec = VirtualService["spec"];
export type HttpRule = VirtualServiceSpec["http"][number];
export type HttpMatch = HttpRule["match"][number];
export type StringMatch = NonNullable<HttpMatch["uri"]>;
export type TlsRule = VirtualServiceSpec["tls"][number];
export type TcpRule = VirtualServiceSpec["tcp"][number];
export type DestinationRule = ResourceOf<"DestinationRule">;
export type DestinationRuleSpec = DestinationRule["spec"];
export type TrafficPolicy = NonNullable<DestinationRuleSpec["trafficPolicy"]>;
export type Namespace = ResourceOf<"Namespace">;
export type ServiceAccount = ResourceOf<"ServiceAccount">;
export type Service = ResourceOf<"Service">;
export type EndpointSlice = ResourceOf<"EndpointSlice">;
export type Pod = ResourceOf<"Pod">;
export type PodSpec = Pod["spec"];
export type Container = PodSpec["containers"][number];
/** Its certificates and keys are `Sealed`. */
export type Secret = ResourceOf<"Secret">;
export type Deployment = ResourceOf<"Deployment">;
export type Node = ResourceOf<"Node">;

/** `cluster/group/kind/namespace/name`: what makes two objects the same one. */
export function resourceKey(object: {
  readonly cluster: string;
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}): string {
  return `${object.cluster}/${kinds[object.kind].group}/${object.kind}/${object.namespace}/${object.name}`;
}
