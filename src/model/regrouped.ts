import { SortedMap } from "../values/index.ts";

/** A map of lists after members left and others joined, and the keys whose lists those were. Empty lists go. */
export function regrouped<K extends string, V>(
  before: SortedMap<K, readonly V[]>,
  moves: { readonly left: Iterable<readonly [K, V]>; readonly joined: Iterable<readonly [K, V]> },
): { readonly lists: SortedMap<K, readonly V[]>; readonly touched: ReadonlySet<K> } {
  const lists = new Map<K, V[]>();
  const listOf = (key: K): V[] => {
    let list = lists.get(key);
    if (!list) {
      list = [...(before.get(key) ?? [])];
      lists.set(key, list);
    }
    return list;
  };
  for (const [key, member] of moves.left) {
    const list = listOf(key);
    const at = list.indexOf(member);
    if (at !== -1) list.splice(at, 1);
  }
  for (const [key, member] of moves.joined) listOf(key).push(member);
  return {
    lists: before.with([...lists].map(([key, list]) => [key, list.length > 0 ? list : undefined])),
    touched: new Set(lists.keys()),
  };
}

export const noLists = <K extends string, V>(): SortedMap<K, readonly V[]> => SortedMap.empty();
