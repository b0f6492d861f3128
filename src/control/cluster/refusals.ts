import type { Receipts } from "../../ads/index.ts";
import type { Origin } from "../../values/index.ts";
import { bookKey } from "./object-book.ts";

/** Something made of an object of the API that a proxy will not take. */
export interface Refusal {
  /** `Kind namespace/name`. */
  readonly object: string;
  readonly resource: string;
  /** One proxy that says so; others may as well. */
  readonly proxy: string;
  readonly reason: string;
}

/** What one replica publishes, at most: of one object as much as its condition shows, and of all so many bytes. */
const mostOfOne = 5;
const longestText = 32 * 1024;
/** Of a proxy's words, in characters: they may be anything. */
const longestReason = 500;

/** What the proxies of this replica refuse. What stands in files has no place in the API. */
export function refusalsOf(receipts: Pick<Receipts, "all">): readonly Refusal[] {
  return merged(
    receipts.all().flatMap(({ proxy, refused }) =>
      [...refused.values()].flatMap(({ name, reason, origins }) =>
        origins.flatMap((origin) => {
          const object = keyOf(origin);
          return object === undefined
            ? []
            : [{ object, resource: name, proxy, reason: reason.slice(0, longestReason) }];
        }),
      ),
    ),
  );
}

/** The object's key in the API; none for what stands in a file. */
export function keyOf({ kind, namespace, name, file }: Origin): string | undefined {
  return file === undefined ? bookKey(kind, `${namespace}/${name}`) : undefined;
}

/** Each said once, however many proxies say it, and always in the same order: the same refusals are the same text. */
export function merged(refusals: readonly Refusal[]): readonly Refusal[] {
  const known = new Map<string, Refusal>();
  for (const refusal of refusals) {
    const { object, resource, reason, proxy } = refusal;
    const key = JSON.stringify([object, resource, reason]);
    const before = known.get(key);
    if (!before || proxy < before.proxy) known.set(key, refusal);
  }
  return [...known].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, refusal]) => refusal);
}

/** What a replica publishes of its refusals; empty when there are none. What is too much is left out. */
export function writeRefusals(refusals: readonly Refusal[]): string {
  const lines: string[] = [];
  const counts = new Map<string, number>();
  let length = 2;
  for (const { object, resource, proxy, reason } of refusals) {
    const count = (counts.get(object) ?? 0) + 1;
    counts.set(object, count);
    const line = JSON.stringify({ object, resource, proxy, reason });
    const size = Buffer.byteLength(line) + 2;
    if (count > mostOfOne || length + size > longestText) continue;
    length += size;
    lines.push(line);
  }
  return lines.length === 0 ? "" : `[${lines.join(",\n")}]`;
}

/** What another replica published, of this release or another: what cannot be read is nothing. */
export function readRefusals(text: unknown): readonly Refusal[] {
  if (typeof text !== "string") return [];
  try {
    const read: unknown = JSON.parse(text);
    return Array.isArray(read) ? read.filter(isRefusal) : [];
  } catch {
    return []; // Somebody wrote into it by hand; the replica puts it right.
  }
}

function isRefusal(value: unknown): value is Refusal {
  const { object, resource, proxy, reason } = (value ?? {}) as Partial<Record<keyof Refusal, unknown>>;
  return [object, resource, proxy, reason].every((field) => typeof field === "string");
}

/** The ConfigMap in which replicas publish, each under its own name. */
export interface Board {
  readonly ours: boolean;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What the proxies of the other replicas refuse. Of a replica that is gone nothing counts. */
export function refusalsElsewhere(
  board: Board | undefined,
  { me, isThere }: { readonly me: string; readonly isThere: (replica: string) => boolean },
): readonly Refusal[] {
  if (!board?.ours) return [];
  const others = Object.entries(board.data).filter(([replica]) => replica !== me && isThere(replica));
  return merged(others.flatMap(([, text]) => readRefusals(text)));
}

/** What a replica has to do about its own part. `wanted` is empty when its proxies refuse nothing. */
export function boardStep(
  board: Board | undefined,
  { me, wanted }: { readonly me: string; readonly wanted: string },
): "none" | "create" | "set" | "clear" | "foreign" {
  if (wanted === "") return board?.ours && me in board.data ? "clear" : "none";
  if (!board) return "create";
  if (!board.ours) return "foreign";
  return board.data[me] === wanted ? "none" : "set";
}
