import type { OutlierRules } from "../config/cluster.ts";
import type { Outcome } from "./upstream.ts";

/** What is remembered of one endpoint's failures. */
export interface OutlierState {
  readonly errors: number;
  readonly gatewayErrors: number;
  readonly localErrors: number;
  /** How often it was left out; each time for longer. Falls by one for each time it stays in for as long. */
  readonly ejections: number;
  /** Left out until then; undefined when it takes part. */
  readonly ejectedUntilMs: number | undefined;
  /** When it came back last. */
  readonly returnedMs: number;
}

export const innocent: OutlierState = Object.freeze({
  errors: 0,
  gatewayErrors: 0,
  localErrors: 0,
  ejections: 0,
  ejectedUntilMs: undefined,
  returnedMs: 0,
});

/** The state after one more outcome, before it is known whether the endpoint may be left out. */
export function nextOutlierState(state: OutlierState, outcome: Outcome, rules: OutlierRules): OutlierState {
  switch (outcome) {
    case "cancelled":
      return state;
    case "success":
      return state.errors + state.gatewayErrors + state.localErrors === 0
        ? state
        : { ...state, errors: 0, gatewayErrors: 0, localErrors: 0 };
    case "server-error":
      return { ...state, errors: state.errors + 1, gatewayErrors: 0, localErrors: 0 };
    case "gateway-error":
      return { ...state, errors: state.errors + 1, gatewayErrors: state.gatewayErrors + 1, localErrors: 0 };
    case "connect-failure":
      return rules.splitLocal
        ? { ...state, localErrors: state.localErrors + 1 }
        : { ...state, errors: state.errors + 1, gatewayErrors: state.gatewayErrors + 1 };
  }
}

/** Whether its failures in a row are enough to leave it out. */
export function isOutlier(state: OutlierState, rules: OutlierRules): boolean {
  const reached = (count: number, limit: number) => limit > 0 && count >= limit;
  return (
    reached(state.errors, rules.consecutive5xx) ||
    reached(state.gatewayErrors, rules.consecutiveGatewayErrors) ||
    (rules.splitLocal && reached(state.localErrors, rules.consecutiveLocalErrors))
  );
}

/** Whether one more of `total` may be left out: never above the percentage, but for one where the rules say so. */
export function mayEject(counts: { readonly ejected: number; readonly total: number }, rules: OutlierRules): boolean {
  return (
    (rules.always && counts.ejected === 0) || ((counts.ejected + 1) / counts.total) * 100 <= rules.maxEjectionPercent
  );
}

/** Left out from now on, for the base time multiplied by how often it happened. */
export function eject(state: OutlierState, rules: OutlierRules, nowMs: number): OutlierState {
  const rested = Math.floor(Math.max(0, nowMs - state.returnedMs) / rules.baseEjectionMs);
  const ejections = Math.max(0, state.ejections - (state.ejections > 0 ? rested : 0)) + 1;
  const forMs = Math.min(rules.maxEjectionMs, rules.baseEjectionMs * ejections);
  return { ...innocent, ejections, ejectedUntilMs: nowMs + forMs, returnedMs: nowMs + forMs };
}

/** Back in, with its failures forgotten. */
export function readmit(state: OutlierState): OutlierState {
  return { ...state, ejectedUntilMs: undefined };
}
