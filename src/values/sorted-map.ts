/** Neighbouring entries of a map, in order of key. Frozen; the same object in every map that holds just these there. */
export interface Run<K, V> {
  readonly keys: readonly K[];
  readonly values: readonly V[];
}

/**
 * A frozen map in order of key (code units). A changed copy shares all but the runs around what changed, so it costs
 * little, and so does finding what is different between two copies. Where runs end is decided by the keys alone: equal
 * maps have equal runs, whatever was done to them before.
 */
export class SortedMap<K extends string, V> implements ReadonlyMap<K, V> {
  static readonly #nothing = new SortedMap<string, never>([], 0);
  readonly #runs: ReadonlyArray<Run<K, V>>;
  readonly size: number;

  private constructor(runs: ReadonlyArray<Run<K, V>>, size: number) {
    this.#runs = runs;
    this.size = size;
    Object.freeze(this);
  }

  static empty<K extends string, V>(): SortedMap<K, V> {
    return SortedMap.#nothing as unknown as SortedMap<K, V>;
  }

  /** Of two entries of one key the later one counts. */
  static from<K extends string, V>(entries: Iterable<readonly [K, V]>): SortedMap<K, V> {
    return SortedMap.empty<K, V>().with(new Map(entries));
  }

  /** What a fold over the entries may remember each of its parts by. */
  get runs(): ReadonlyArray<Run<K, V>> {
    return this.#runs;
  }

  get(key: K): V | undefined {
    const run = this.#runs[this.#runAt(key)];
    if (!run) return undefined;
    const at = lowerBound(run.keys, key);
    return run.keys[at] === key ? run.values[at] : undefined;
  }

  has(key: K): boolean {
    const run = this.#runs[this.#runAt(key)];
    return run !== undefined && run.keys[lowerBound(run.keys, key)] === key;
  }

  /** A copy with these entries; undefined takes one away. The same map when nothing is different. */
  with(changes: Iterable<readonly [K, V | undefined]>): SortedMap<K, V> {
    const wanted = new Map<K, V | undefined>();
    for (const [key, value] of changes) wanted.set(key, value);
    for (const [key, value] of wanted) if (Object.is(this.get(key), value)) wanted.delete(key);
    if (wanted.size === 0) return this;
    const changed = [...wanted.keys()].sort(inOrder);
    const runs: Run<K, V>[] = [];
    let size = this.size;
    let next = 0;
    let keys: K[] = [];
    let values: V[] = [];
    const close = () => {
      if (keys.length > 0) runs.push(Object.freeze({ keys, values }));
      keys = [];
      values = [];
    };
    const put = (key: K, value: V) => {
      keys.push(key);
      values.push(value);
      if (endsRun(key)) close();
    };
    /** Everything changed before `key`. */
    const putBefore = (key: K | undefined) => {
      for (; next < changed.length && (key === undefined || changed[next]! < key); next++) {
        const value = wanted.get(changed[next]!);
        if (value === undefined) continue;
        put(changed[next]!, value);
        size++;
      }
    };
    for (const run of this.#runs) {
      const last = run.keys[run.keys.length - 1]!;
      const ends = endsRun(last);
      // Only the last run may end without a key that ends it; whatever comes behind such a one belongs to it.
      const untouched = next === changed.length || (ends && changed[next]! > last);
      if (untouched && keys.length === 0) {
        runs.push(run);
        continue;
      }
      for (let at = 0; at < run.keys.length; at++) {
        const key = run.keys[at]!;
        putBefore(key);
        if (changed[next] === key) {
          next++;
          const value = wanted.get(key);
          if (value === undefined) size--;
          else put(key, value);
        } else put(key, run.values[at]!);
      }
    }
    putBefore(undefined);
    close();
    return size === 0 ? SortedMap.empty() : new SortedMap(runs, size);
  }

  /** The entries whose keys begin so. */
  *startingWith(prefix: string): Generator<[K, V], undefined> {
    for (let index = this.#runAt(prefix as K); index < this.#runs.length; index++) {
      const { keys, values } = this.#runs[index]!;
      for (let at = lowerBound(keys, prefix as K); at < keys.length; at++) {
        if (!keys[at]!.startsWith(prefix)) return;
        yield [keys[at]!, values[at]!];
      }
    }
  }

  *entries(): Generator<[K, V], undefined> {
    for (const { keys, values } of this.#runs) for (let at = 0; at < keys.length; at++) yield [keys[at]!, values[at]!];
  }

  *keys(): Generator<K, undefined> {
    for (const { keys } of this.#runs) yield* keys;
  }

  *values(): Generator<V, undefined> {
    for (const { values } of this.#runs) yield* values;
  }

  [Symbol.iterator](): Generator<[K, V], undefined> {
    return this.entries();
  }

  forEach(tell: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const { keys, values } of this.#runs)
      for (let at = 0; at < keys.length; at++) tell(values[at]!, keys[at]!, this);
  }

  get [Symbol.toStringTag](): string {
    return "SortedMap";
  }

  /** The first run that may hold `key`: the one whose last key is not before it. */
  #runAt(key: K): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { keys } = this.#runs[middle]!;
      if (keys[keys.length - 1]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** How many entries a run has on average: half of them are copied at a change, and as many runs are looked over. */
const usualRun = 64;

/** FNV-1a over the code units, mixed: it has to be even, not secret. */
function endsRun(key: string): boolean {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca6b);
  return ((hash ^ (hash >>> 13)) & (usualRun - 1)) === 0;
}

function lowerBound<K extends string>(keys: readonly K[], key: K): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function inOrder(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What became of one key. Undefined is absent. */
export interface Change<K, V> {
  readonly key: K;
  readonly before: V | undefined;
  readonly after: V | undefined;
}

/** Where two maps differ, by identity of their values. Of sorted maps that share most of their runs it costs next to nothing. */
export function changesBetween<K extends string, V>(
  before: ReadonlyMap<K, V>,
  after: ReadonlyMap<K, V>,
): ReadonlyArray<Change<K, V>> {
  if (before === after) return [];
  if (before instanceof SortedMap && after instanceof SortedMap) return sortedChanges(before, after);
  const changes: Change<K, V>[] = [];
  let common = 0;
  for (const [key, value] of after) {
    const old = before.get(key);
    if (old !== undefined) common++;
    if (old !== value) changes.push({ key, before: old, after: value });
  }
  if (common < before.size)
    for (const [key, value] of before) if (!after.has(key)) changes.push({ key, before: value, after: undefined });
  return changes;
}

function sortedChanges<K extends string, V>(before: SortedMap<K, V>, after: SortedMap<K, V>): Change<K, V>[] {
  const changes: Change<K, V>[] = [];
  const [old, now] = [before.runs, after.runs];
  let [o, n, oAt, nAt] = [0, 0, 0, 0];
  while (o < old.length || n < now.length) {
    const [oldRun, nowRun] = [old[o], now[n]];
    if (oldRun === nowRun && oAt === 0 && nAt === 0) {
      o++;
      n++;
      continue;
    }
    const [oldKey, nowKey] = [oldRun?.keys[oAt], nowRun?.keys[nAt]];
    const takeOld = nowKey === undefined || (oldKey !== undefined && oldKey <= nowKey);
    const takeNow = oldKey === undefined || (nowKey !== undefined && nowKey <= oldKey);
    const oldValue = takeOld ? oldRun!.values[oAt++] : undefined;
    const nowValue = takeNow ? nowRun!.values[nAt++] : undefined;
    if (!Object.is(oldValue, nowValue))
      changes.push({ key: (takeOld ? oldKey : nowKey)!, before: oldValue, after: nowValue });
    if (oldRun && oAt === oldRun.keys.length) [o, oAt] = [o + 1, 0];
    if (nowRun && nAt === nowRun.keys.length) [n, nAt] = [n + 1, 0];
  }
  return changes;
}
