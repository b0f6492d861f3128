import { Failure } from "../base/index.ts";
import { mergePatch } from "./kube-writes.ts";

interface StoredObject {
  readonly apiVersion: string;
  readonly kind: string;
  metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly [field: string]: unknown;
  };
  [field: string]: unknown;
}

interface AnyRequest {
  readonly method?: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
}

interface AnyKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly name: string;
  readonly namespaced: boolean;
}

/** `group/version kind plural`, a star where it has namespaces. */
const builtIn = `
/v1 Namespace namespaces
/v1 Node nodes
/v1 Pod pods *
/v1 Event events *
/v1 Secret secrets *
/v1 Service services *
/v1 ConfigMap configmaps *
/v1 ServiceAccount serviceaccounts *
apps/v1 Deployment deployments *
policy/v1 PodDisruptionBudget poddisruptionbudgets *
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers *
coordination.k8s.io/v1 Lease leases *
rbac.authorization.k8s.io/v1 Role roles *
rbac.authorization.k8s.io/v1 RoleBinding rolebindings *
rbac.authorization.k8s.io/v1 ClusterRole clusterroles
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations
`
  .trim()
  .split("\n")
  .map((row): AnyKind => {
    const [apiVersion, kind, name, star] = row.split(" ");
    const [group, version] = apiVersion!.split("/");
    return { group: group!, version: version!, kind: kind!, name: name!, namespaced: star === "*" };
  });

/**
 * A cluster's objects in memory, as one who installs sees them: discovery that follows definitions, apply, deletion with a
 * namespace's content, lists by label, reviews of rights. What it does not do is judge objects, or run anything: `onApply`
 * plays whoever would react.
 */
export class FakeCluster {
  readonly objects = new Map<string, StoredObject>();
  /** `PATCH Deployment isthmus-system/isthmus`, in the order of their coming; dry runs are not among them. */
  readonly writes: string[] = [];
  version = { major: "1", minor: "33" };
  /** Answers what the caller may do. */
  may: (right: {
    readonly verb: string;
    readonly group: string;
    readonly resource: string;
    readonly namespace?: string;
  }) => boolean = () => true;
  onApply: (object: StoredObject) => void = () => {};
  /** Thrown in place of an answer, when it gives one. */
  failing: (request: AnyRequest) => Failure | undefined = () => undefined;

  /** To be given out as a client. */
  readonly client = {
    access: {
      name: "fake",
      server: "https://fake",
      authority: undefined,
      serverName: undefined,
      insecure: false,
      namespace: "default",
      credentials: { kind: "none" } as const,
    },
    json: async <T>(request: AnyRequest): Promise<T> => {
      const failure = this.failing(request);
      if (failure) throw failure;
      return structuredClone(this.#answer(request)) as T;
    },
    stream: async (): Promise<never> => {
      throw new Error("this cluster has no watches");
    },
  };

  put(object: object): void {
    this.objects.set(this.#key(object as StoredObject), structuredClone(object) as StoredObject);
  }

  get(kind: string, name: string): StoredObject | undefined {
    return this.objects.get(`${kind} ${name}`);
  }

  names(): readonly string[] {
    return [...this.objects.keys()].sort();
  }

  #key({ kind, metadata: { namespace, name } }: StoredObject): string {
    return `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
  }

  #kinds(): readonly AnyKind[] {
    const definitions = [...this.objects.values()].filter(({ kind }) => kind === "CustomResourceDefinition");
    const custom = definitions.flatMap((definition): readonly AnyKind[] => {
      const { group, names, versions, scope } = definition["spec"] as {
        group: string;
        names: { kind: string; plural: string };
        versions: ReadonlyArray<{ name: string; served: boolean }>;
        scope: string;
      };
      const served = versions.filter((version) => version.served);
      return served.map(({ name }) => ({
        group,
        version: name,
        kind: names.kind,
        name: names.plural,
        namespaced: scope === "Namespaced",
      }));
    });
    return [...builtIn, ...custom];
  }

  #answer({ method = "GET", path, query = {}, body, contentType }: AnyRequest): unknown {
    if (path === "/version") return this.version;
    if (path === "/apis") {
      const versions = new Set(
        this.#kinds()
          .filter(({ group }) => group !== "")
          .map(({ group, version }) => `${group}/${version}`),
      );
      return { groups: [...versions].map((groupVersion) => ({ preferredVersion: { groupVersion } })) };
    }
    if (path.endsWith("/selfsubjectaccessreviews")) {
      const { resourceAttributes } = (body as { spec: { resourceAttributes: Parameters<FakeCluster["may"]>[0] } }).spec;
      return { status: { allowed: this.may(resourceAttributes) } };
    }
    const [, group = "", version = "", rest = ""] =
      /^\/apis?(?:\/([^/]*\.[^/]*|apps|policy|autoscaling))?\/(v[^/]+)(?:\/(.*))?$/.exec(path) ?? [];
    const kinds = this.#kinds().filter((kind) => kind.group === group && kind.version === version);
    if (rest === "") {
      if (kinds.length === 0) throw notFound(path);
      return {
        resources: kinds.map(({ name, kind, namespaced }) => ({
          name,
          kind,
          namespaced,
          verbs: ["list", "get", "delete"],
        })),
      };
    }
    const [, namespace, plural, name] = /^(?:namespaces\/([^/]+)\/)?([^/]+)(?:\/([^/]+))?$/.exec(rest) ?? [];
    const kind = kinds.find((one) => one.name === plural);
    if (!kind) throw notFound(path);
    if (name === undefined) return this.#list(kind, namespace, String(query["labelSelector"] ?? ""));
    const key = `${kind.kind} ${kind.namespaced ? `${namespace}/` : ""}${name}`;
    if (method === "GET") return this.objects.get(key) ?? miss(path);
    if (method === "DELETE") return this.#delete(key, path, (body as { dryRun?: unknown }).dryRun !== undefined);
    if (contentType === "application/merge-patch+json") {
      const merged = mergePatch(this.objects.get(key) ?? miss(path), body) as StoredObject;
      this.writes.push(`MERGE ${key}`);
      this.objects.set(key, merged);
      return merged;
    }
    return this.#apply(key, body as StoredObject, {
      namespace,
      force: query["force"] === true,
      dryRun: query["dryRun"] === "All",
    });
  }

  #list({ kind }: AnyKind, namespace: string | undefined, selector: string): unknown {
    const wanted = selector.split(",").filter(Boolean);
    const items = [...this.objects.values()].filter((object) => {
      if (object.kind !== kind || (namespace !== undefined && object.metadata.namespace !== namespace)) return false;
      const { labels = {} } = object.metadata;
      return wanted.every((part) => {
        const [key, value] = part.split("=");
        return value === undefined ? key! in labels : labels[key!] === value;
      });
    });
    return { metadata: { resourceVersion: "1" }, items };
  }

  #delete(key: string, path: string, dryRun: boolean): unknown {
    const object = this.objects.get(key) ?? miss(path);
    if (dryRun) return object;
    this.writes.push(`DELETE ${key}`);
    this.objects.delete(key);
    if (object.kind === "Namespace")
      for (const [other, { metadata }] of this.objects)
        if (metadata.namespace === object.metadata.name) this.objects.delete(other);
    return { status: "Success" };
  }

  #apply(
    key: string,
    applied: StoredObject,
    {
      namespace,
      force,
      dryRun,
    }: { readonly namespace: string | undefined; readonly force: boolean; readonly dryRun: boolean },
  ): unknown {
    if (namespace !== undefined && !this.objects.has(`Namespace ${namespace}`))
      throw notFound(`namespace ${namespace}`);
    const live = this.objects.get(key);
    const others =
      live && JSON.stringify(live["spec"]) !== JSON.stringify(applied["spec"]) && live.metadata["owner"] !== undefined;
    if (others && !force)
      throw new Failure(
        "kube/conflict",
        `Apply failed with 1 conflict: conflict with "${live.metadata["owner"]}": .spec`,
      );
    const status = live?.["status"];
    const object: StoredObject = structuredClone({ ...applied, ...(status === undefined ? {} : { status }) });
    const kept = (live?.["webhooks"] ?? []) as ReadonlyArray<{ name: string; clientConfig: { caBundle?: string } }>;
    for (const webhook of (object["webhooks"] ?? []) as Array<{ name: string; clientConfig: { caBundle?: string } }>) {
      const caBundle = kept.find(({ name }) => name === webhook.name)?.clientConfig.caBundle;
      if (caBundle !== undefined) webhook.clientConfig = { ...webhook.clientConfig, caBundle };
    }
    // Whoever put a root into a webhook owns that: the webhook stays when its other owner lets go, with nothing else in it.
    const half = kept.filter(
      ({ name, clientConfig }) =>
        clientConfig.caBundle !== undefined &&
        !(object["webhooks"] as typeof kept | undefined)?.some((one) => one.name === name),
    );
    if (half.length > 0) throw new Failure("kube/invalid", `${key} is invalid: ${half[0]!.name}: Required value`);
    if (dryRun) return object;
    this.writes.push(`PATCH ${key}`);
    this.onApply(object);
    this.objects.set(key, object);
    return object;
  }
}

function notFound(what: string): Failure {
  return new Failure("kube/not-found", `${what} could not be found`);
}

function miss(path: string): never {
  throw notFound(path);
}
