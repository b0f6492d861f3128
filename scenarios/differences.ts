import type { DataPlane } from "../src/lab/index.ts";

/** Where data planes differ and it is no defect. A scenario that passes in spite of its entry fails: the entry is old. */
export interface Difference {
  /** The scenario's path below this folder, without `.yaml`. */
  readonly scenario: string;
  readonly dataPlane: DataPlane;
  /** What is other than the scenario says. */
  readonly what: string;
  /** Why that cannot be mended here. */
  readonly reason: string;
}

export const differences: readonly Difference[] = [];
