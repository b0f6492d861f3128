import type { Sealed } from "./sealed.ts";

/** The same shape, all the way down read only. Text and numbers with a brand stay what they are. */
export type Frozen<T> = T extends string | number | boolean | bigint | undefined | null | Sealed
  ? T
  : T extends readonly (infer E)[]
    ? readonly Frozen<E>[]
    : { readonly [K in keyof T]: Frozen<T[K]> };

/** Freezes a tree of plain objects and arrays in place and gives it back. Does not go into what is frozen already. */
export function freeze<T>(value: T): Frozen<T> {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) freeze(part);
  }
  return value as Frozen<T>;
}
