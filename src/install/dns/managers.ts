import type { KubeObject } from "../../kube/index.ts";

/** Who puts a ConfigMap back to what they want, and how to tell them what we want. */
export interface Manager {
  readonly name: string;
  readonly evidence: string;
  readonly mend: string;
}

interface Row {
  readonly name: string;
  readonly where: "labels" | "annotations";
  readonly key: string;
  readonly value?: string;
  readonly mend: string;
}

const rows: readonly Row[] = [
  {
    name: "the cluster's add-on manager",
    where: "labels",
    key: "addonmanager.kubernetes.io/mode",
    value: "Reconcile",
    mend: "use the ConfigMap that the Corefile imports (coredns-custom on AKS)",
  },
  {
    name: "Helm",
    where: "labels",
    key: "app.kubernetes.io/managed-by",
    value: "Helm",
    mend: "add the block to the chart's values (servers), or the next upgrade takes it out",
  },
  { name: "Argo CD", where: "labels", key: "argocd.argoproj.io/instance", mend: "add the block to the repository" },
  {
    name: "Argo CD",
    where: "annotations",
    key: "argocd.argoproj.io/tracking-id",
    mend: "add the block to the repository",
  },
  { name: "Flux", where: "labels", key: "kustomize.toolkit.fluxcd.io/name", mend: "add the block to the repository" },
  { name: "Flux", where: "labels", key: "helm.toolkit.fluxcd.io/name", mend: "add the block to the release's values" },
  {
    name: "k3s or RKE2",
    where: "annotations",
    key: "objectset.rio.cattle.io/id",
    mend: "use the ConfigMap coredns-custom, which the Corefile imports",
  },
];

/** Field managers of those who write the Corefile of a managed cluster. */
const writers: ReadonlyArray<readonly [writer: RegExp, name: string, mend: string]> = [
  [/^eks$/, "the EKS add-on", "set the Corefile in the add-on's configuration (corefile), or let it preserve changes"],
  [
    /^(aks|addon-manager|kube-addon-manager)/,
    "the cluster's add-on manager",
    "use the ConfigMap that the Corefile imports",
  ],
  [/^(dns-operator|cluster-dns-operator)/, "the DNS operator", "name the domain in the operator's own resource"],
];

/** Who is known to write this object again and again; nobody, as far as it says. */
export function managerOf(object: KubeObject | undefined): Manager | undefined {
  if (!object) return undefined;
  for (const { name, where, key, value, mend } of rows) {
    const found = ((object.metadata[where] ?? {}) as Readonly<Record<string, string>>)[key];
    if (found === undefined || (value !== undefined && found !== value)) continue;
    return { name, mend, evidence: `${where === "labels" ? "label" : "annotation"} ${key}: ${found}` };
  }
  for (const { manager = "" } of managedFields(object)) {
    const row = writers.find(([writer]) => writer.test(manager));
    if (row) return { name: row[1], mend: row[2], evidence: `field manager ${manager}` };
  }
  return undefined;
}

/** Who wrote last, and when, as the server remembers it. */
export function lastWriter(
  object: KubeObject | undefined,
): { readonly manager: string; readonly time: string } | undefined {
  const [last] = managedFields(object).toSorted((a, b) => ((a.time ?? "") < (b.time ?? "") ? 1 : -1));
  return last && { manager: last.manager ?? "somebody", time: last.time ?? "at an unknown time" };
}

function managedFields(
  object: KubeObject | undefined,
): ReadonlyArray<{ readonly manager?: string; readonly time?: string }> {
  const fields = object?.metadata["managedFields"];
  return Array.isArray(fields) ? fields : [];
}
