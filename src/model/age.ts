/** What order is decided by where two objects want the same. */
export interface Aged {
  /** Milliseconds since 1970, or 0 when nobody noted it. */
  readonly created: number;
  readonly namespace: string;
  readonly name: string;
}

/** Text in code unit order: the same on every machine, whatever its language. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Oldest first; of the same age, by namespace and name. */
export function byAge(a: Aged, b: Aged): number {
  return a.created - b.created || compareText(a.namespace, b.namespace) || compareText(a.name, b.name);
}
