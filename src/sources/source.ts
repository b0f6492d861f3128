import type { Reading } from "../resources/index.ts";

/**
 * News about one unit of a source: what is now read from a file, say, or that it is gone. A unit is what its author
 * writes at once, so what is wrong in one never touches another.
 */
export interface UnitUpdate {
  /** Names the unit within its source: the path of a file. */
  readonly unit: string;
  /** Undefined when the unit is gone, and its objects with it. */
  readonly reading: Reading | undefined;
}

/** A source's own layer in the store. */
export interface Layer {
  /** All updates take effect at once: an object that moved from one unit to another is at no time gone. */
  apply(updates: readonly UnitUpdate[]): void;
  /** Takes the layer away; what it covered shows again. */
  remove(): void;
}
