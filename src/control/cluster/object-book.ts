import type { KubeObject, Served } from "../../kube/index.ts";
import { type CustomKind, customKinds, type Kind } from "../../resources/index.ts";
import type { ObjectObserver } from "../../sources/index.ts";
import type { WrittenConditions } from "./conditions.ts";

/** An object of ours in the API, as far as its status goes. */
export interface BookedObject {
  readonly kind: CustomKind;
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string | undefined;
  readonly generation: number | undefined;
  readonly conditions: WrittenConditions;
  readonly observedGeneration: unknown;
  /** Of a ServiceEntry: addresses that were given before. */
  readonly addresses: ReadonlyArray<{ readonly value: string; readonly host: string }>;
  /** Whether it is to go; then nothing is said of it any more. */
  readonly ending: boolean;
}

/** `Kind namespace/name`: what an origin, and a violation of an object of the API, is called as well. */
export function bookKey(kind: string, name: string): string {
  return `${kind} ${name}`;
}

/**
 * What status objects have in the API, kept by each replica as the objects pass by, so that who becomes the leader knows
 * at once what is to be written. Nothing of it reaches the mesh.
 */
export class ObjectBook implements ObjectObserver {
  readonly #objects = new Map<string, BookedObject>();
  readonly #served = new Map<Kind, NonNullable<Served>>();
  readonly #watchers = new Set<(key: string) => void>();

  served(kind: Kind, served: NonNullable<Served>): void {
    this.#served.set(kind, served);
  }

  seen(kind: Kind, name: string, object: KubeObject | undefined): void {
    if (!isCustomKind(kind)) return;
    const key = bookKey(kind, name);
    if (object) this.#objects.set(key, booked(kind, object));
    else this.#objects.delete(key);
    for (const notify of this.#watchers) notify(key);
  }

  get(key: string): BookedObject | undefined {
    return this.#objects.get(key);
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** The version to write a kind's status in; undefined where its status is not written apart. */
  statusVersion(kind: Kind): string | undefined {
    const served = this.#served.get(kind);
    return served?.status ? served.version : undefined;
  }

  /** Calls `notify` with the key of each object that changed, came or went. */
  subscribe(notify: (key: string) => void): () => void {
    const watcher = (key: string) => notify(key);
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

function isCustomKind(kind: Kind): kind is CustomKind {
  return (customKinds as readonly Kind[]).includes(kind);
}

function booked(kind: CustomKind, { metadata, ...object }: KubeObject): BookedObject {
  const status = (object["status"] ?? {}) as Readonly<Record<string, unknown>>;
  const { generation, deletionTimestamp } = metadata;
  return {
    kind,
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    resourceVersion: metadata.resourceVersion,
    generation: typeof generation === "number" ? generation : undefined,
    conditions: recordsOf(status["conditions"]),
    observedGeneration: status["observedGeneration"],
    addresses: recordsOf(status["addresses"]).flatMap(({ value, host }) =>
      typeof value === "string" && typeof host === "string" ? [{ value, host }] : [],
    ),
    ending: deletionTimestamp !== undefined,
  };
}

function recordsOf(value: unknown): ReadonlyArray<Readonly<Record<string, unknown>>> {
  return Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null) : none;
}

const none: readonly never[] = [];
