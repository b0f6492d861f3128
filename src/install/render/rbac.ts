import { type CustomKind, customKinds, kinds } from "../../resources/index.ts";
import { labelsOf, meshLease, refusalsMap, revisionNames, rootConfigMap } from "../names.ts";
import type { Settings } from "../settings/settings.ts";
import type { Manifest } from "./object.ts";

// All rights that Isthmus has in a cluster. Each rule says what it is for; a right that nothing here explains is one too
// many. Gateways and sidecars have none at all: what they need the control plane tells them, once they proved who they are.

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

const follow = ["get", "list", "watch"];

/** Rights of the control plane over the whole cluster. */
export function clusterRules(revision: string): readonly Rule[] {
  const names = revisionNames(revision);
  return [
    // Services, where they run, and who runs them: the mesh is made of these.
    { apiGroups: [""], resources: ["namespaces", "nodes", "pods", "serviceaccounts", "services"], verbs: follow },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: follow },
    // What people say about the mesh.
    { apiGroups: [meshGroup], resources: customKinds.map(pluralOf), verbs: follow },
    // Told back to them: whether it holds, and what is wrong with it. The leader alone writes; their specs it cannot touch.
    {
      apiGroups: [meshGroup],
      resources: customKinds.map((kind) => `${pluralOf(kind)}/status`),
      verbs: ["get", "patch", "update"],
    },
    // Which versions of these kinds the cluster serves.
    {
      apiGroups: ["apiextensions.k8s.io"],
      resources: ["customresourcedefinitions"],
      resourceNames: customKinds.map((kind) => `${pluralOf(kind)}.${meshGroup}`),
      verbs: ["get"],
    },
    // Who asks for a certificate proves it by a token; the API server says whose token it is.
    { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
    // The root of trust, in every namespace, for pods to mount. A right to create cannot be bound to a name; the others are.
    { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
    {
      apiGroups: [""],
      resources: ["configmaps"],
      resourceNames: [rootConfigMap],
      verbs: [...follow, "patch", "update"],
    },
    // The root with which the API server checks our webhooks, put into the two configurations that are ours.
    {
      apiGroups: ["admissionregistration.k8s.io"],
      resources: ["mutatingwebhookconfigurations"],
      resourceNames: [names.injector],
      verbs: [...follow, "patch", "update"],
    },
    {
      apiGroups: ["admissionregistration.k8s.io"],
      resources: ["validatingwebhookconfigurations"],
      resourceNames: [names.validator],
      verbs: [...follow, "patch", "update"],
    },
  ];
}

/** Rights of the control plane in its own namespace. */
export function systemRules(revision: string): readonly Rule[] {
  const { leader } = revisionNames(revision);
  return [
    // Whether the validating webhook is asked is tried with an object that it must refuse, as a dry run that keeps nothing.
    { apiGroups: [meshGroup], resources: [kinds.ServiceEntry.plural], verbs: ["create"] },
    // Which of the replicas writes, and which of several revisions what there is once. A right to create cannot be bound to a name; the others are.
    { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["create"] },
    {
      apiGroups: ["coordination.k8s.io"],
      resources: ["leases"],
      resourceNames: [leader, meshLease],
      verbs: ["get", "patch", "update"],
    },
    // What proxies refuse: each replica of each revision says it of its own, so that the one that writes can tell all of
    // it. The right to
    // make this ConfigMap is the one for the root of trust.
    { apiGroups: [""], resources: ["configmaps"], resourceNames: [refusalsMap], verbs: [...follow, "patch"] },
  ];
}

/** Rights of the control plane in a namespace where gateways run, its own included. */
export const secretRules: readonly Rule[] = [
  // Keys and certificates that a Gateway's credentialName names. Handed on only to a gateway of this namespace.
  { apiGroups: [""], resources: ["secrets"], verbs: follow },
];

const meshGroup = kinds.Gateway.group;

function pluralOf(kind: CustomKind): string {
  return kinds[kind].plural;
}

const rbac = "rbac.authorization.k8s.io";

/** The rules as objects, bound to the control plane's account. */
export function rbacObjects(settings: Settings): readonly Manifest[] {
  const { namespace, revision, gateways } = settings;
  const name = revisionNames(revision).controlPlane;
  const labels = labelsOf("control-plane", revision);
  const subjects = [{ kind: "ServiceAccount", name, namespace }];
  const role = (kind: string, metadata: Manifest["metadata"], rules: readonly Rule[]): readonly Manifest[] => [
    { apiVersion: `${rbac}/v1`, kind, metadata, rules },
    {
      apiVersion: `${rbac}/v1`,
      kind: `${kind}Binding`,
      metadata,
      roleRef: { apiGroup: rbac, kind, name: metadata.name },
      subjects,
    },
  ];
  // Cluster-wide names carry the namespace: an installation in another one has its own.
  const wide = `${name}-${namespace}`;
  return [
    ...role("ClusterRole", { name: wide, labels }, clusterRules(revision)),
    ...role("Role", { name, namespace, labels }, systemRules(revision)),
    ...[namespace, ...gateways.secretNamespaces.filter((other) => other !== namespace)].flatMap((where) =>
      role("Role", { name: `${name}-secrets`, namespace: where, labels }, secretRules),
    ),
  ];
}
