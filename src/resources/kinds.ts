import type { z } from "zod";
import type { Labels } from "../values/index.ts";
import { adviseEgress, adviseEntryEgress } from "./egress.ts";
import type { AnnotationReader } from "./istio/annotation.ts";
import { destinationRule } from "./istio/destination-rule.ts";
import { adviseGateway, gateway, proxyProtocol } from "./istio/gateway.ts";
import { healthCheck } from "./istio/health-check.ts";
import { serviceEntry } from "./istio/service-entry.ts";
import { virtualService } from "./istio/virtual-service.ts";
import { workloadEntry } from "./istio/workload-entry.ts";
import { deployment, endpointSlice, namespace, node, pod, service, serviceAccount } from "./kube/core.ts";
import { secret } from "./kube/secret.ts";
import type { Report } from "./schema.ts";

/** What is known of a kind. The schema is of the object without `apiVersion`, `kind` and `metadata`. */
export interface KindRow {
  /** Empty for the core group. */
  readonly group: string;
  /** The first is the one that we write. */
  readonly versions: readonly string[];
  readonly plural: string;
  readonly scope: "namespaced" | "cluster";
  /** What may stand in `metadata.name`: one DNS label, or several with dots. */
  readonly name: "label" | "subdomain";
  /** Whether a field that the schema does not name is an error. For Kubernetes' own kinds we read only what we use. */
  readonly unknownFields: "refused" | "ignored";
  readonly schema: z.ZodObject;
  /** Whether its values must never be seen: then no complaint quotes them, and annotations, which may repeat them, are dropped. */
  readonly confidential?: boolean;
  /** Annotations of ours that may stand on it. */
  readonly annotations?: ReadonlyArray<Pick<AnnotationReader<unknown>, "judge">>;
  /** What is unwise or wrong about an object whose fields are good, seen from all of it. */
  readonly advise?: (object: AdvisedObject, report: Report) => void;
}

/** A good object as `advise` gets it: the row itself knows what its spec is. */
export interface AdvisedObject {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly annotations: Labels };
  readonly spec?: unknown;
}

const istio = {
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  scope: "namespaced",
  name: "subdomain",
  unknownFields: "refused",
} as const;
const core = { group: "", versions: ["v1"], scope: "namespaced", name: "subdomain", unknownFields: "ignored" } as const;

/** Every kind that is read. A new kind is a row. */
export const kinds = {
  Namespace: {
    ...core,
    plural: "namespaces",
    scope: "cluster",
    name: "label",
    schema: namespace,
    advise: adviseEgress,
  },
  Node: { ...core, plural: "nodes", scope: "cluster", schema: node },
  ServiceAccount: { ...core, plural: "serviceaccounts", schema: serviceAccount },
  Secret: { ...core, plural: "secrets", schema: secret, confidential: true },
  Service: { ...core, plural: "services", name: "label", schema: service },
  Pod: { ...core, plural: "pods", schema: pod },
  EndpointSlice: { ...core, group: "discovery.k8s.io", plural: "endpointslices", schema: endpointSlice },
  Deployment: { ...core, group: "apps", plural: "deployments", schema: deployment },
  ServiceEntry: { ...istio, plural: "serviceentries", schema: serviceEntry, advise: adviseEntryEgress },
  WorkloadEntry: { ...istio, plural: "workloadentries", schema: workloadEntry },
  Gateway: { ...istio, plural: "gateways", schema: gateway, annotations: [proxyProtocol], advise: adviseGateway },
  VirtualService: { ...istio, plural: "virtualservices", schema: virtualService },
  DestinationRule: { ...istio, plural: "destinationrules", schema: destinationRule, annotations: [healthCheck] },
} as const satisfies Record<string, KindRow>;

export type Kind = keyof typeof kinds;
export const kindNames = Object.keys(kinds) as readonly Kind[];

/** The row of an object's kind; undefined for kinds that are none of ours. */
export function kindOf(apiVersion: string, kind: string): Kind | undefined {
  const row: KindRow | undefined = Object.hasOwn(kinds, kind) ? kinds[kind as Kind] : undefined;
  if (!row) return undefined;
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  return row.group === group && row.versions.includes(version!) ? (kind as Kind) : undefined;
}
