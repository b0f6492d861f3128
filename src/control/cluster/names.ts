import type { KubeObject } from "../../kube/index.ts";

/** Who writes, in `managedFields` and in the audit log. */
export const fieldManager = "isthmus-controlplane";

/** By these, what a running control plane made is found and taken away. */
export const ownLabels: Readonly<Record<string, string>> = {
  "app.kubernetes.io/managed-by": "isthmus",
  "app.kubernetes.io/part-of": "isthmus",
};

export const revisionLabel = "isthmus.dev/revision";

/** The ConfigMap in each namespace from which workloads know whom to believe, and its key. */
export const rootConfigMap = "isthmus-ca-root-cert";
export const rootKey = "root-cert.pem";

export const defaultRevision = "default";

/** Which revision writes what the cluster has once; and where all replicas of all revisions say what proxies refuse. */
export const meshLease = "isthmus-mesh";
export const refusalsMap = "isthmus-refusals";

/** Names of what belongs to one revision: the default one's have no ending. */
export function revisionNames(revision: string) {
  const named = (name: string) => (revision === defaultRevision ? name : `${name}-${revision}`);
  return {
    service: named("isthmus"),
    lease: named("isthmus-leader"),
    injector: named("isthmus-sidecar-injector"),
    validator: named("isthmus-validator"),
  };
}

/**
 * Whether an object is ours: by its labels, or because we wrote fields of it before somebody took them away. Helm puts its own
 * name in the place of ours on all that it installs, and leaves what it is a part of.
 */
export function isOurs(metadata: KubeObject["metadata"]): boolean {
  const labels = (metadata["labels"] ?? {}) as Record<string, unknown>;
  const managed = metadata["managedFields"];
  const fields = Array.isArray(managed) ? managed : [];
  const [by, part] = ["app.kubernetes.io/managed-by", "app.kubernetes.io/part-of"];
  const labelled = labels[by] === ownLabels[by] || (labels[by] === "Helm" && labels[part] === ownLabels[part]);
  return labelled || fields.some((one) => one?.manager === fieldManager);
}
