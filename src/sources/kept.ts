import type { KubeObject } from "../kube/index.ts";

/** The whole object over again, in the words of who applied it last. */
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration";

/** Of a Pod's annotations only these say anything to a mesh; others may be long, and change often. */
const podAnnotations = ["proxy.istio.io/config"];

type Fields = Readonly<Record<string, unknown>>;

/**
 * What of an object of the API is read at all, before it is read: there may be a hundred thousand. Bookkeeping that
 * changes with every status goes, and of a Pod all but where it is, who it is and which ports have names.
 */
export function keptOf(object: KubeObject): object {
  const {
    managedFields: _fields,
    resourceVersion: _version,
    annotations,
    ownerReferences: _owners,
    ...metadata
  } = object.metadata;
  const notes = annotations === undefined ? {} : { annotations: notesOf(object.kind, annotations as Fields) };
  const rest = object.kind === "Pod" ? podOf(object) : object;
  return { ...rest, apiVersion: object.apiVersion, kind: object.kind, metadata: { ...metadata, ...notes } };
}

function notesOf(kind: string | undefined, annotations: Fields): Fields {
  if (kind === "Pod") return picked(annotations, podAnnotations);
  const { [lastApplied]: _applied, ...others } = annotations;
  return others;
}

function podOf({ spec, status }: KubeObject): Fields {
  const { containers, ...of } = (spec ?? {}) as Fields;
  return {
    spec: {
      ...picked(of, ["serviceAccountName", "nodeName", "hostNetwork", "hostname", "subdomain"]),
      containers: Array.isArray(containers) ? containers.map((one) => picked(one, ["name", "ports"])) : containers,
    },
    status: picked((status ?? {}) as Fields, ["phase", "podIP", "podIPs"]),
  };
}

function picked(from: Fields, names: readonly string[]): Fields {
  const found: Record<string, unknown> = {};
  for (const name of names) if (from[name] !== undefined) found[name] = from[name];
  return found;
}
