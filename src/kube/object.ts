/** An object as the API gives it. Nothing in it is trusted beyond these fields. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** Where objects of one kind are served, of all namespaces or of one. */
export interface Collection {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespace?: string;
  /** Only the object of this name: `metadata.name=…` as the API's field selector. */
  readonly only?: string;
}

/** What a list or a watch of the collection asks for beside its path. */
export function selectionOf({ only }: Collection): { readonly fieldSelector?: string } {
  return only === undefined ? {} : { fieldSelector: `metadata.name=${only}` };
}

export function collectionPath({ group, version, plural, namespace }: Collection): string {
  const api = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  return namespace === undefined ? `${api}/${plural}` : `${api}/namespaces/${namespace}/${plural}`;
}

/** What tells an object from the others of its collection. */
export function objectName({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

export function isKubeObject(value: unknown): value is KubeObject {
  const metadata = (value as { metadata?: { name?: unknown } } | null)?.metadata;
  return typeof metadata === "object" && metadata !== null && typeof metadata.name === "string";
}

/** The object, saying what it is: those in a list do not. */
export function withKind(object: KubeObject, { group, version, kind }: Collection): KubeObject {
  return { ...object, apiVersion: group === "" ? version : `${group}/${version}`, kind };
}
