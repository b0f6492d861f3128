import { Failure } from "../base/index.ts";
import { kinds, type Resource, readResources } from "../resources/index.ts";

/** The objects of one origin by key; within one cluster, kind, namespace and name tell objects apart. */
export type Layer = ReadonlyMap<string, Resource>;

export function objectKey({ kind, metadata }: Resource): string {
  return `${kind}/${metadata.namespace}/${metadata.name}`;
}

export function layerOf(resources: readonly Resource[]): Layer {
  return new Map(resources.map((resource) => [objectKey(resource), resource]));
}

/** An object as it is written, read alone: what the mesh makes of it; undefined for what it does not read. */
export function readObject(
  object: Readonly<Record<string, unknown>>,
  context: { readonly cluster: string; readonly defaultNamespace?: string },
): Resource | undefined {
  return readResources(JSON.stringify(object), context).resources[0];
}

/** An object that a person names. */
export interface ObjectName {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** The keys that a name may stand for: an object that belongs to a namespace, or to none. */
export function keysOf(wanted: ObjectName): {
  readonly kind: string;
  readonly shown: string;
  readonly keys: readonly string[];
} {
  const kind = fullKind(wanted.kind);
  return {
    kind,
    shown: `${kind.toLowerCase()}/${wanted.name}`,
    keys: [`${kind}/${wanted.namespace}/${wanted.name}`, `${kind}//${wanted.name}`],
  };
}

const shortKinds: Readonly<Record<string, string>> = {
  se: "ServiceEntry",
  vs: "VirtualService",
  dr: "DestinationRule",
  gw: "Gateway",
  we: "WorkloadEntry",
  svc: "Service",
  po: "Pod",
  deploy: "Deployment",
  ns: "Namespace",
  sa: "ServiceAccount",
};

/** `serviceentry`, `se` or `ServiceEntry` to `ServiceEntry`. */
function fullKind(word: string): string {
  const known = Object.keys(kinds);
  const lower = word.toLowerCase().split(".")[0]!;
  const found =
    (Object.hasOwn(shortKinds, lower) ? shortKinds[lower] : undefined) ??
    known.find((kind) => [kind, `${kind}s`, kind.replace(/y$/, "ies")].some((form) => form.toLowerCase() === lower));
  if (found) return found;
  throw new Failure("input/kind", `there is no kind "${word}"`, { hint: `there is ${known.join(", ")}` });
}
