/** Chances that come again with the same seed. */
export interface Chance {
  /** From 0 up to, and not, 1. */
  next(): number;
  /** One of these; there must be one. */
  pick<T>(items: readonly T[]): T;
  /** A whole number from `low` to `high`, both possible. */
  between(low: number, high: number): number;
}

/** The generator known as mulberry32: small, and good enough to choose by. */
export function chanceFrom(seed: number): Chance {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    pick: (items) => items[Math.floor(next() * items.length)]!,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
  };
}
