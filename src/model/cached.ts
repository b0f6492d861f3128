/**
 * A value of a cache, computed at the first question. On a `WeakMap` keyed by a frozen input it cannot be stale: a
 * changed input is another object.
 */
export function cached<K, V>(
  cache: { get(key: K): V | undefined; set(key: K, value: V): unknown },
  key: K,
  compute: () => V,
): V {
  let value = cache.get(key);
  if (value === undefined) {
    value = compute();
    cache.set(key, value);
  }
  return value;
}
