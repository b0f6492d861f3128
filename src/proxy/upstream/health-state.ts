import type { HealthRules } from "../config/health-check.ts";

/** What an endpoint answered to one question. */
export type HealthAnswer =
  | { readonly kind: "well" }
  /** It said that it is not well: that is believed at once. */
  | { readonly kind: "unwell"; readonly reason: string }
  /** It did not answer, or not in time: that can happen to anybody. */
  | { readonly kind: "silent"; readonly reason: string };

/** What is believed of one endpoint. */
export interface HealthState {
  readonly health: "unknown" | "passing" | "failing";
  /** Answers in a row that speak against what is believed. */
  readonly against: number;
}

export const unasked: HealthState = Object.freeze({ health: "unknown", against: 0 });

/** The first answer decides; after it, as many in a row as the rules ask for. */
export function nextHealth(state: HealthState, answer: HealthAnswer, rules: HealthRules): HealthState {
  const well = answer.kind === "well";
  switch (state.health) {
    case "unknown":
      return { health: well ? "passing" : "failing", against: 0 };
    case "passing": {
      if (well) return { health: "passing", against: 0 };
      const against = state.against + 1;
      return answer.kind === "unwell" || against >= rules.unhealthyThreshold
        ? { health: "failing", against: 0 }
        : { health: "passing", against };
    }
    case "failing": {
      if (!well) return { health: "failing", against: 0 };
      const against = state.against + 1;
      return against >= rules.healthyThreshold ? { health: "passing", against: 0 } : { health: "failing", against };
    }
  }
}

/** How long until the next question, in milliseconds. */
export function nextQuestionMs(
  { before, after }: { readonly before: HealthState; readonly after: HealthState },
  rules: HealthRules,
  random: () => number,
): number {
  const edge = before.health !== after.health;
  const wait =
    after.health === "failing"
      ? edge
        ? rules.unhealthyEdgeMs
        : rules.unhealthyIntervalMs
      : edge
        ? rules.healthyEdgeMs
        : rules.intervalMs;
  return wait + rules.jitterMs * random();
}
