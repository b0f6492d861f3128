import type { KubeObject } from "./object.ts";

/** What a Lease (coordination.k8s.io/v1) says, as far as it matters here. Times that others wrote are not read: clocks differ. */
export interface LeaseRecord {
  /** Empty when it was given up. */
  readonly holder: string;
  readonly durationMs: number;
  readonly transitions: number;
  /** When the holder began, in the holder's words. */
  readonly acquired: string | undefined;
}

/** Milliseconds. A holder that did not get a renewal through for `giveUpMs` stops; others begin after `durationMs`. */
export interface LeaseTimes {
  readonly durationMs: number;
  readonly giveUpMs: number;
  readonly retryMs: number;
}

/** As Kubernetes' own controllers have them. */
export const leaseTimes: LeaseTimes = { durationMs: 15_000, giveUpMs: 10_000, retryMs: 2_000 };

/** What one contender knows. All times are its own, of a clock that never goes back. */
export interface LeaseState {
  /** The version seen last, and since when it is known: a version that stays is a holder that says nothing. */
  readonly seen: { readonly version: string; readonly record: LeaseRecord; readonly atMs: number } | undefined;
  /** Until when this contender may lead; undefined when it does not hold the lease. */
  readonly untilMs: number | undefined;
}

export const unknownLease: LeaseState = { seen: undefined, untilMs: undefined };

/** What to do now. */
export type LeaseStep =
  | { readonly kind: "create"; readonly record: LeaseRecord }
  /** Only if it still has this version: who else was faster wins. */
  | { readonly kind: "update"; readonly version: string; readonly record: LeaseRecord }
  | { readonly kind: "wait"; readonly holder: string };

/** After reading the lease; undefined: there is none. */
export function seenLease(
  state: LeaseState,
  found: { readonly version: string; readonly record: LeaseRecord } | undefined,
  at: { readonly me: string; readonly nowMs: number },
): LeaseState {
  const untilMs = found?.record.holder === at.me ? state.untilMs : undefined;
  if (!found) return { seen: undefined, untilMs };
  const same = state.seen?.version === found.version;
  return { seen: same ? state.seen : { ...found, atMs: at.nowMs }, untilMs };
}

/** A lease that is free, ours, or was not renewed for as long as it lasts, is taken; any other is waited for. */
export function leaseStep(
  state: LeaseState,
  at: { readonly me: string; readonly nowMs: number; readonly times: LeaseTimes; readonly wallMs: number },
): LeaseStep {
  const { seen } = state;
  const { me, nowMs, times, wallMs } = at;
  const fresh = { holder: me, durationMs: times.durationMs, acquired: microTime(wallMs) };
  if (!seen) return { kind: "create", record: { ...fresh, transitions: 0 } };
  const { record, version, atMs } = seen;
  if (record.holder === me) return { kind: "update", version, record: { ...record, durationMs: times.durationMs } };
  const over = record.holder === "" || nowMs - atMs >= record.durationMs;
  if (!over) return { kind: "wait", holder: record.holder };
  return { kind: "update", version, record: { ...fresh, transitions: record.transitions + 1 } };
}

/**
 * After a write that the server took. It was asked at `sentMs`, so nobody else can have seen it before, and nobody else
 * begins before `sentMs + durationMs`.
 */
export function heldLease(
  written: { readonly version: string; readonly record: LeaseRecord },
  at: { readonly sentMs: number; readonly nowMs: number; readonly times: LeaseTimes },
): LeaseState {
  return { seen: { ...written, atMs: at.nowMs }, untilMs: at.sentMs + at.times.giveUpMs };
}

export function mayLead({ untilMs }: LeaseState, nowMs: number): boolean {
  return untilMs !== undefined && nowMs < untilMs;
}

/** From the API's object. What is missing counts as given up; a duration that is missing, as ours. */
export function readLease(
  object: KubeObject,
  times: LeaseTimes,
): { readonly version: string; readonly record: LeaseRecord } {
  const spec = (object["spec"] ?? {}) as Record<string, unknown>;
  const { holderIdentity, leaseDurationSeconds, leaseTransitions, acquireTime } = spec;
  return {
    version: object.metadata.resourceVersion ?? "",
    record: {
      holder: typeof holderIdentity === "string" ? holderIdentity : "",
      durationMs:
        typeof leaseDurationSeconds === "number" && leaseDurationSeconds > 0
          ? leaseDurationSeconds * 1_000
          : times.durationMs,
      transitions: typeof leaseTransitions === "number" ? leaseTransitions : 0,
      acquired: typeof acquireTime === "string" ? acquireTime : undefined,
    },
  };
}

export function leaseObject(options: {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly record: LeaseRecord;
  readonly version: string | undefined;
  readonly wallMs: number;
}): object {
  const { namespace, name, labels, record, version, wallMs } = options;
  return {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { namespace, name, labels, ...(version === undefined ? {} : { resourceVersion: version }) },
    spec: {
      holderIdentity: record.holder,
      leaseDurationSeconds: Math.max(1, Math.round(record.durationMs / 1_000)),
      leaseTransitions: record.transitions,
      renewTime: microTime(wallMs),
      ...(record.acquired === undefined ? {} : { acquireTime: record.acquired }),
    },
  };
}

/** Kubernetes' MicroTime: six digits after the second, no fewer. */
function microTime(wallMs: number): string {
  return new Date(wallMs).toISOString().replace("Z", "000Z");
}
