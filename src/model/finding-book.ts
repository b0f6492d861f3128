import type { SortedMap } from "../values/index.ts";
import { compareText } from "./age.ts";
import { cached } from "./cached.ts";
import type { Finding } from "./finding.ts";

/** Findings by what they are about, so that only what changed is looked at again. No list is empty. */
export type FindingBook = SortedMap<string, readonly Finding[]>;

/** All findings in order of their objects. Sorting what is nearly sorted costs little, so the list before comes first. */
export function listOf(book: FindingBook, before: readonly Finding[]): readonly Finding[] {
  const now = new Set<Finding>();
  for (const list of book.values()) for (const one of list) now.add(one);
  const kept = before.filter((one) => now.delete(one));
  const all = [...kept, ...now];
  return Object.freeze(all.sort((a, b) => compareText(keyOf(a), keyOf(b))));
}

const keys = new WeakMap<Finding, string>();

function keyOf(finding: Finding): string {
  return cached(keys, finding, () => {
    const { origin, code, message, hint } = finding;
    return `${origin.kind}/${origin.namespace}/${origin.name}/${code}/${message}/${hint}`;
  });
}

/** The book with these lists; a list that says what it said stays the same one. */
export function noted(book: FindingBook, lists: Iterable<readonly [string, readonly Finding[]]>): FindingBook {
  const wanted = new Map<string, readonly Finding[] | undefined>();
  for (const [key, list] of lists) {
    const known = book.get(key);
    const same = known?.length === list.length && known.every((one, at) => one === list[at]);
    wanted.set(key, same ? known : list.length > 0 ? list : undefined);
  }
  return book.with(wanted);
}
