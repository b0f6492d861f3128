/** How long to wait before each new try. */
export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Growth from one try to the next; 2 unless told otherwise. */
  readonly factor?: number;
}

/**
 * The wait in milliseconds before try number `attempt` (the first retry is 1). Full jitter between half and the whole
 * of the grown delay, so that many clients that lost the same server do not come back in one instant.
 */
export function backoffMs(attempt: number, options: BackoffOptions, random: () => number): number {
  const grown = Math.min(options.maxMs, options.firstMs * (options.factor ?? 2) ** Math.max(0, attempt - 1));
  return Math.round(grown / 2 + (grown / 2) * random());
}
