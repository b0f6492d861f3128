import type { ObjectApi, Right } from "../../kube/index.ts";
import type { Manifest } from "../render/object.ts";
import { groupOf, ownKind, ownKinds } from "./kinds.ts";

/** Whether the caller may do all that is to be done: everything, or what is missing. */
export type RightsVerdict =
  | { readonly kind: "cluster-admin" }
  | { readonly kind: "enough" }
  | { readonly kind: "missing"; readonly rights: readonly Right[] };

/** So many questions are asked of the server at once. */
const atOnce = 8;

/** Asks the server, right by right, unless one answer says all. Nothing is written. */
export async function rightsVerdict(api: ObjectApi, wanted: readonly Right[]): Promise<RightsVerdict> {
  if (await api.may({ verb: "*", group: "*", resource: "*" })) return { kind: "cluster-admin" };
  const missing: Right[] = [];
  const left = [...wanted];
  const ask = async () => {
    for (let right = left.shift(); right; right = left.shift()) if (!(await api.may(right))) missing.push(right);
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
  if (missing.length === 0) return { kind: "enough" };
  const order = new Map(wanted.map((right, index) => [right, index]));
  return { kind: "missing", rights: missing.sort((a, b) => order.get(a)! - order.get(b)!) };
}

/** What applying, reading back and pruning these objects takes, each right once. */
export function rightsToInstall(manifests: readonly Manifest[], namespace: string): readonly Right[] {
  const wanted: Right[] = [];
  for (const { apiVersion, kind, metadata } of manifests) {
    const row = ownKind(kind);
    if (!row) continue;
    for (const verb of ["get", "create", "patch"])
      wanted.push(right(verb, groupOf(apiVersion), row.plural, metadata.namespace));
  }
  // An earlier installation's objects are looked for by label, wherever they are.
  for (const { apiVersion, kind, plural } of ownKinds) {
    if (["Namespace", "CustomResourceDefinition", "Secret", "Lease"].includes(kind)) continue;
    for (const verb of ["list", "delete"]) wanted.push(right(verb, groupOf(apiVersion), plural));
  }
  wanted.push(right("get", "", "secrets", namespace), right("list", "", "pods", namespace));
  wanted.push(right("list", "", "events", namespace), right("list", "", "nodes"));
  wanted.push(...grantedRights(manifests));
  return unique(wanted);
}

/** What finding and deleting all that is ours takes. */
export function rightsToUninstall(): readonly Right[] {
  return unique(
    ownKinds.flatMap(({ apiVersion, plural }) =>
      ["list", "delete"].map((verb) => right(verb, groupOf(apiVersion), plural)),
    ),
  );
}

interface GrantedRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** Nobody may give away a right that they do not have themselves: those of the roles count as well. */
function grantedRights(manifests: readonly Manifest[]): readonly Right[] {
  return manifests.flatMap(({ metadata, ...fields }) => {
    const rules = (fields["rules"] ?? []) as readonly GrantedRule[];
    return rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => right(verb, group, resource, metadata.namespace))),
      ),
    );
  });
}

function right(verb: string, group: string, resource: string, namespace?: string): Right {
  return { verb, group, resource, ...(namespace === undefined ? {} : { namespace }) };
}

function unique(rights: readonly Right[]): readonly Right[] {
  return [...new Map(rights.map((one) => [JSON.stringify(one), one])).values()];
}

/** `create, patch deployments.apps in isthmus-system`: one line for all verbs of a resource. */
export function rightsText(rights: readonly Right[]): readonly string[] {
  const verbs = new Map<string, string[]>();
  for (const { verb, group, resource, namespace } of rights) {
    const [name, ...below] = resource.split("/");
    const what = `${name}${group === "" ? "" : `.${group}`}${below.map((part) => `/${part}`).join("")}${namespace === undefined ? " in the whole cluster" : ` in ${namespace}`}`;
    verbs.set(what, [...(verbs.get(what) ?? []), verb]);
  }
  return [...verbs].map(([what, list]) => `${list.join(", ")} ${what}`);
}
