import type { Labels } from "../values/index.ts";

// The names and labels by which an installation's objects are known. Uninstall finds by these labels and by nothing else.

/** Field manager of all that installation writes. */
export const fieldManager = "isthmus";

export const managedByLabel = "app.kubernetes.io/managed-by";
export const partOfLabel = "app.kubernetes.io/part-of";
export const componentLabel = "isthmus.dev/component";
export const revisionLabel = "isthmus.dev/revision";
/** What every object of ours carries, whoever made it: installation or a running control plane. */
export const ownLabels: Labels = { [managedByLabel]: "isthmus", [partOfLabel]: "isthmus" };

export type Component = "base" | "control-plane" | "ingress-gateway" | "egress-gateway" | "dns" | "mesh-rules";

/** Without a revision: shared by all revisions of a cluster. */
export function labelsOf(component: Component, revision?: string): Labels {
  return {
    ...ownLabels,
    [componentLabel]: component,
    ...(revision === undefined ? {} : { [revisionLabel]: revision }),
  };
}

export function isOurs(object: { readonly metadata: { readonly [field: string]: unknown } }): boolean {
  const labels = (object.metadata["labels"] ?? {}) as Labels;
  return labels[managedByLabel] === "isthmus" && labels[partOfLabel] === "isthmus";
}

/** `isthmus` is the revision `default`; another revision stands behind a dash. */
export function revised(name: string, revision: string): string {
  return revision === "default" ? name : `${name}-${revision}`;
}

export const cacertsSecret = "cacerts";
export const rootConfigMap = "isthmus-ca-root-cert";
export const dnsService = "isthmus-dns";
/** Made by control planes, of whatever revision: which of these writes what there is once, and what proxies refuse. */
export const meshLease = "isthmus-mesh";
export const refusalsMap = "isthmus-refusals";
export const ingressName = "isthmus-ingressgateway";
export const egressName = "isthmus-egressgateway";

/** Names that depend on the revision. */
export function revisionNames(revision: string) {
  return {
    controlPlane: revised("isthmus", revision),
    injection: revised("isthmus-injection", revision),
    injector: revised("isthmus-sidecar-injector", revision),
    validator: revised("isthmus-validator", revision),
    leader: revised("isthmus-leader", revision),
    installation: revised("isthmus-installation", revision),
  };
}

/** Ports of the control plane's pods. */
export const ports = { discovery: 15012, monitoring: 15014, webhook: 15017, dns: 15053, admin: 15000 } as const;
