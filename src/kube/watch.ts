import { type Clock, Failure, type Timer } from "../base/index.ts";
import type { KubeClient } from "./client.ts";
import { type Collection, collectionPath, isKubeObject, type KubeObject, selectionOf, withKind } from "./object.ts";

export type WatchEvent =
  | { readonly kind: "set"; readonly object: KubeObject }
  | { readonly kind: "deleted"; readonly object: KubeObject }
  /** Nothing changed up to this version. */
  | { readonly kind: "bookmark"; readonly resourceVersion: string };

/** How a watch ended. */
export type WatchEnd =
  /** The server ended it, as it does after a while. */
  | { readonly kind: "closed" }
  /** The server no longer knows the version that the watch was to go on from: list anew. */
  | { readonly kind: "gone" }
  | { readonly kind: "failed"; readonly failure: Failure };

/** Longest event. An object has 1.5 MiB at most; with its managed fields and escapes it may take more on the wire. */
const longestLine = 16 * 1024 * 1024;
/** Beyond the time that the watch was to last: then the connection is dead, whatever the kernel says. */
const overtimeMs = 30_000;

/**
 * Watches a collection from a version on, for `seconds` at most. `take` gets the events of each piece that arrives.
 * Never throws: how it ended is its value.
 */
export async function watchCollection(options: {
  readonly client: KubeClient;
  readonly collection: Collection;
  readonly resourceVersion: string;
  readonly seconds: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly take: (events: readonly WatchEvent[]) => void;
}): Promise<WatchEnd> {
  const { client, collection, resourceVersion, seconds, clock, signal, take } = options;
  let timer: Timer | undefined;
  try {
    const stream = await client.stream({
      path: collectionPath(collection),
      query: {
        ...selectionOf(collection),
        watch: true,
        resourceVersion,
        allowWatchBookmarks: true,
        timeoutSeconds: seconds,
      },
      signal,
    });
    const late = `the watch of ${collection.plural} did not end after ${seconds} s, as it was to`;
    timer = clock.after(seconds * 1_000 + overtimeMs, () => stream.destroy(new Error(late)));
    stream.setEncoding("utf8");
    let rest = "";
    for await (const chunk of stream) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > longestLine) throw new Error(`an event is longer than ${longestLine} characters`);
      const events: WatchEvent[] = [];
      let end: WatchEnd | undefined;
      for (const line of lines) {
        if (line === "") continue;
        const read = readEvent(line, collection);
        if (read.kind !== "end") events.push(read);
        else {
          end = read.end;
          break;
        }
      }
      if (events.length > 0) take(events);
      if (end) {
        stream.destroy();
        return end;
      }
    }
    return { kind: "closed" };
  } catch (caught) {
    const failure = Failure.from(caught, "kube/watch");
    return failure.code === "kube/gone" ? { kind: "gone" } : { kind: "failed", failure };
  } finally {
    timer?.cancel();
  }
}

type Line = WatchEvent | { readonly kind: "end"; readonly end: WatchEnd };

/** One line of a watch. A line that makes no sense ends the watch: what it was to say would be lost otherwise. */
export function readEvent(line: string, collection: Collection): Line {
  const failed = (message: string): Line => ({
    kind: "end",
    end: { kind: "failed", failure: new Failure("kube/watch", `${message} in the watch of ${collection.plural}`) },
  });
  let event: { type?: unknown; object?: unknown };
  try {
    event = JSON.parse(line);
  } catch {
    return failed("a line that is no JSON");
  }
  const { type, object } = event;
  if (type === "ERROR") {
    const { code, message } = (object ?? {}) as { code?: unknown; message?: unknown };
    if (code === 410) return { kind: "end", end: { kind: "gone" } };
    return failed(`an error of the server (${String(code)}: ${String(message)})`);
  }
  if (type === "BOOKMARK") {
    const version = (object as { metadata?: { resourceVersion?: unknown } } | undefined)?.metadata?.resourceVersion;
    return typeof version === "string"
      ? { kind: "bookmark", resourceVersion: version }
      : failed("a bookmark without a version");
  }
  if (!isKubeObject(object)) return failed(`an event "${String(type)}" without an object`);
  if (type === "ADDED" || type === "MODIFIED") return { kind: "set", object: withKind(object, collection) };
  if (type === "DELETED") return { kind: "deleted", object };
  return failed(`an event of the unknown type "${String(type)}"`);
}
