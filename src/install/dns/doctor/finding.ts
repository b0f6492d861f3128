import type { Facts } from "./facts.ts";

/** One thing that keeps a name from resolving, or may. */
export interface Finding {
  /** `wrong`: names fail because of it. `maybe`: they may, which cannot be seen from here. `fine`: looked at, and good. */
  readonly level: "wrong" | "maybe" | "fine";
  readonly what: string;
  /** What was seen, and where. */
  readonly evidence: string;
  readonly mend: string | undefined;
}

export type Check = (facts: Facts) => readonly Finding[];

export const wrong = (what: string, evidence: string, mend?: string): Finding => ({
  level: "wrong",
  what,
  evidence,
  mend,
});
export const maybe = (what: string, evidence: string, mend?: string): Finding => ({
  level: "maybe",
  what,
  evidence,
  mend,
});
export const fine = (what: string, evidence: string): Finding => ({ level: "fine", what, evidence, mend: undefined });
