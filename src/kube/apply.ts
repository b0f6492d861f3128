import { backoffMs, type Clock, Failure, sleep } from "../base/index.ts";
import type { KubeClient } from "./client.ts";
import { listPages } from "./list.ts";
import type { Collection, KubeObject } from "./object.ts";
import { KubeRefusal } from "./refusal.ts";

/** What names an object. */
export interface ObjectName {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** A kind as the server says that it serves it. */
export interface ServedKind {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

/** What somebody wants to do, as `kubectl auth can-i` puts it. `*` stands for all. */
export interface Right {
  readonly verb: string;
  /** Empty for the core group. */
  readonly group: string;
  /** `deployments`, or with what is below it `gateways/status`. */
  readonly resource: string;
  readonly namespace?: string;
}

export interface ObjectApiOptions {
  readonly client: KubeClient;
  /** By which the server knows whose field is whose. */
  readonly fieldManager: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal?: AbortSignal;
}

/**
 * Tries at one request, and the waits between them: a server that is busy or restarts is no reason to give up, and one that
 * has just learnt of a definition says 429 until its storage is there.
 */
const tries = 12;
const retry = { firstMs: 300, maxMs: 3_000 };
const passing: readonly string[] = ["kube/gone", "kube/unreachable", "kube/throttled", "kube/server-error"];

/**
 * Single objects of a cluster: read, applied by the server, deleted, looked for by label; and what the caller may do.
 * Passing failures are tried again. Throws as the client does, and `kube/kind` for a kind that is not served.
 */
export class ObjectApi {
  readonly #options: ObjectApiOptions;
  readonly #groups = new Map<string, Promise<readonly ServedKind[]>>();

  constructor(options: ObjectApiOptions) {
    this.#options = options;
  }

  get client(): KubeClient {
    return this.#options.client;
  }

  /** The kinds of a group version; none when it is not served. */
  async served(apiVersion: string): Promise<readonly ServedKind[]> {
    const asked = this.#groups.get(apiVersion) ?? this.#discover(apiVersion);
    this.#groups.set(apiVersion, asked);
    const found = await asked.catch((caught) => {
      this.#groups.delete(apiVersion);
      throw caught;
    });
    // What is not there yet may come: a definition that was just made.
    if (found.length === 0) this.#groups.delete(apiVersion);
    return found;
  }

  async kind(apiVersion: string, kind: string): Promise<ServedKind | undefined> {
    const known = (await this.served(apiVersion)).find((served) => served.kind === kind);
    if (!known) this.#groups.delete(apiVersion);
    return known;
  }

  /** Every group version that the server prefers. */
  async groupVersions(): Promise<readonly string[]> {
    const answer = await this.#ask<{ groups?: ReadonlyArray<{ preferredVersion?: { groupVersion?: string } }> }>({
      path: "/apis",
    });
    const preferred = (answer.groups ?? []).map((group) => group.preferredVersion?.groupVersion);
    return ["v1", ...preferred.filter((version) => version !== undefined)];
  }

  async get(name: ObjectName): Promise<KubeObject | undefined> {
    const kind = await this.kind(name.apiVersion, name.kind);
    if (!kind) return undefined;
    return await orUndefined(this.#ask<KubeObject>({ path: objectPath(kind, name.metadata) }));
  }

  /** Server-side apply. `force` takes fields over that others own; without it they are named in a `kube/conflict`. */
  async apply(object: ObjectName, how: { readonly force: boolean; readonly dryRun?: boolean }): Promise<KubeObject> {
    const kind = await this.#mustServe(object);
    return await this.#ask<KubeObject>({
      method: "PATCH",
      path: objectPath(kind, object.metadata),
      query: {
        fieldManager: this.#options.fieldManager,
        fieldValidation: "Strict",
        force: how.force,
        dryRun: how.dryRun ? "All" : undefined,
      },
      body: object,
      // JSON is YAML.
      contentType: "application/apply-patch+yaml",
    });
  }

  /** Changes fields of an object that is there (RFC 7386): null takes one away, lists are replaced whole. */
  async merge(name: ObjectName, fields: object): Promise<void> {
    const kind = await this.#mustServe(name);
    await this.#ask({
      method: "PATCH",
      path: objectPath(kind, name.metadata),
      query: { fieldManager: this.#options.fieldManager },
      body: fields,
      contentType: "application/merge-patch+json",
    });
  }

  /** Whether there was something to delete. What depends on it goes first, when `foreground` says so. */
  async delete(
    name: ObjectName,
    how: { readonly dryRun?: boolean; readonly foreground?: boolean; readonly uid?: string } = {},
  ): Promise<boolean> {
    const kind = await this.kind(name.apiVersion, name.kind);
    if (!kind) return false;
    const deleted = await orUndefined(
      this.#ask({
        method: "DELETE",
        path: objectPath(kind, name.metadata),
        body: {
          apiVersion: "v1",
          kind: "DeleteOptions",
          propagationPolicy: how.foreground ? "Foreground" : "Background",
          ...(how.dryRun ? { dryRun: ["All"] } : {}),
          ...(how.uid === undefined ? {} : { preconditions: { uid: how.uid } }),
        },
      }),
    );
    return deleted !== undefined;
  }

  /** All objects of a kind that carry the labels, of all namespaces or of one; none of a kind that is not served. */
  async list(
    {
      apiVersion,
      kind,
      namespace,
    }: { readonly apiVersion: string; readonly kind: string; readonly namespace?: string },
    labelSelector?: string,
  ): Promise<readonly KubeObject[]> {
    const served = await this.kind(apiVersion, kind);
    if (!served) return [];
    const [group, version] = splitVersion(apiVersion);
    const collection: Collection = {
      group,
      version,
      plural: served.plural,
      kind,
      ...(namespace === undefined ? {} : { namespace }),
    };
    const { client, signal = new AbortController().signal } = this.#options;
    // From the first page on each time: what came before is void when the list breaks off.
    return await this.#persist(async () => {
      const found: KubeObject[] = [];
      for await (const page of listPages(client, collection, signal, { labelSelector })) found.push(...page.objects);
      return found;
    });
  }

  /** Whether the caller has a right. */
  async may({ verb, group, resource, namespace }: Right): Promise<boolean> {
    const [name, subresource] = resource.split("/");
    const resourceAttributes = {
      verb,
      group,
      resource: name,
      ...(subresource === undefined ? {} : { subresource }),
      ...(namespace === undefined ? {} : { namespace }),
    };
    const answer = await this.#ask<{ status?: { allowed?: boolean } }>({
      method: "POST",
      path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      body: { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectAccessReview", spec: { resourceAttributes } },
    });
    return answer.status?.allowed === true;
  }

  async #mustServe({ apiVersion, kind }: ObjectName): Promise<ServedKind> {
    const served = await this.kind(apiVersion, kind);
    if (served) return served;
    throw new Failure("kube/kind", `the cluster does not serve ${kind} of ${apiVersion}`);
  }

  async #discover(apiVersion: string): Promise<readonly ServedKind[]> {
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const answer = await orUndefined(this.#ask<{ readonly resources?: readonly Discovered[] }>({ path }));
    return (answer?.resources ?? [])
      .filter(({ name }) => !name.includes("/"))
      .map(({ name, kind, namespaced, verbs = [] }) => ({ apiVersion, kind, plural: name, namespaced, verbs }));
  }

  async #ask<T>(request: Parameters<KubeClient["json"]>[0]): Promise<T> {
    const { client, signal } = this.#options;
    return await this.#persist(() => client.json<T>({ ...request, ...(signal ? { signal } : {}) }));
  }

  /** Does it again while what keeps it from being done may pass. */
  async #persist<T>(work: () => Promise<T>): Promise<T> {
    const { clock, random, signal } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (caught) {
        const failure = Failure.from(caught);
        const again = passing.includes(failure.code) || isRace(failure);
        signal?.throwIfAborted();
        if (!again || attempt >= tries) throw failure;
        const asked = failure instanceof KubeRefusal ? (failure.retryAfterMs ?? 0) : 0;
        await sleep(clock, Math.max(asked, backoffMs(attempt, retry, random)), signal);
      }
    }
  }
}

interface Discovered {
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly verbs?: readonly string[];
}

/** Somebody else wrote at the same moment. A conflict about fields is another matter, and stays. */
function isRace({ code, message }: Failure): boolean {
  return code === "kube/conflict" && message.includes("the object has been modified");
}

async function orUndefined<T>(asked: Promise<T>): Promise<T | undefined> {
  return await asked.catch((caught: unknown) => {
    if (caught instanceof Failure && caught.code === "kube/not-found") return undefined;
    throw caught;
  });
}

function splitVersion(apiVersion: string): readonly [group: string, version: string] {
  const [group, version] = apiVersion.split("/");
  return version === undefined ? ["", apiVersion] : [group!, version];
}

function objectPath(kind: ServedKind, { name, namespace }: ObjectName["metadata"]): string {
  const api = kind.apiVersion.includes("/") ? `/apis/${kind.apiVersion}` : `/api/${kind.apiVersion}`;
  const place = kind.namespaced ? `/namespaces/${namespace ?? "default"}` : "";
  return `${api}${place}/${kind.plural}/${name}`;
}
