import { Failure } from "../base/index.ts";
import type { KubeClient } from "./client.ts";
import { type Collection, collectionPath, isKubeObject, type KubeObject, selectionOf, withKind } from "./object.ts";

/** As many objects in one answer: the number that Kubernetes' own clients ask for. */
const pageSize = 500;

export interface Page {
  readonly objects: readonly KubeObject[];
  /** Of the whole list: where a watch may begin. */
  readonly resourceVersion: string;
}

/**
 * All objects of a collection, page by page, as they were at one moment. Throws `kube/gone` when the server forgot that
 * moment half-way: begin anew then, and what came in pages before is void.
 */
export async function* listPages(
  client: KubeClient,
  collection: Collection,
  signal: AbortSignal,
  { labelSelector }: { readonly labelSelector?: string | undefined } = {},
): AsyncGenerator<Page> {
  const path = collectionPath(collection);
  let next: string | undefined;
  do {
    const answer = await client.json<ListAnswer>({
      path,
      query: { ...selectionOf(collection), labelSelector, limit: pageSize, continue: next },
      signal,
    });
    const { resourceVersion, continue: following } = answer?.metadata ?? {};
    if (!Array.isArray(answer?.items) || typeof resourceVersion !== "string") {
      throw new Failure(
        "kube/not-kubernetes",
        `"${client.access.server}" answered ${path} with something that is no list`,
      );
    }
    const objects = answer.items.filter(isKubeObject).map((object) => withKind(object, collection));
    yield { objects, resourceVersion };
    next = following || undefined;
  } while (next !== undefined);
}

interface ListAnswer {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly unknown[];
}
