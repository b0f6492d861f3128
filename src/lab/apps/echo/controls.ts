/** What a request asks of the echo by its query. */
export interface Controls {
  /** `status=503`. */
  readonly status: number;
  /** `delay=500ms`, or `2s`: before the answer. */
  readonly delayMs: number;
  /** `fail=2`: the first two requests with the same `x-scenario-key` get 503. */
  readonly fail: number;
  /** `reset=1`: the connection is cut without an answer. */
  readonly reset: boolean;
  /** `bytes=1048576`: a body of this length in place of what was seen. */
  readonly bytes: number | undefined;
  /** `header=name:value`, any number of times. */
  readonly headers: Readonly<Record<string, string>>;
}

const longestDelayMs = 60_000;
const longestAnswer = 64 * 2 ** 20;

/** Reads the query of a request's path. What makes no sense is as if it were not there. */
export function readControls(path: string): Controls {
  const at = path.indexOf("?");
  const query = new URLSearchParams(at < 0 ? "" : path.slice(at + 1));
  const whole = (name: string, [low, high]: readonly [number, number]) => {
    const value = Number(query.get(name) ?? Number.NaN);
    return Number.isInteger(value) && value >= low && value <= high ? value : undefined;
  };
  const headers = query.getAll("header").flatMap((text): [string, string][] => {
    const found = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\x20-\x7e]*)$/.exec(text);
    return found ? [[found[1]!.toLowerCase(), found[2]!.trim()]] : [];
  });
  return {
    status: whole("status", [200, 599]) ?? 200,
    delayMs: delayOf(query.get("delay")),
    fail: whole("fail", [0, 1000]) ?? 0,
    reset: query.get("reset") === "1",
    bytes: whole("bytes", [0, longestAnswer]),
    headers: Object.fromEntries(headers),
  };
}

function delayOf(text: string | null): number {
  const found = /^(\d{1,6})(ms|s)$/.exec(text ?? "");
  return found ? Math.min(longestDelayMs, Number(found[1]) * (found[2] === "s" ? 1000 : 1)) : 0;
}

/** Counts requests by key, as far as `fail` needs it. */
export class Failing {
  readonly #seen = new Map<string, number>();

  /** The status of this request's answer. */
  statusFor(request: { readonly headers: Readonly<Record<string, unknown>> }, { status, fail }: Controls): number {
    if (fail === 0) return status;
    const key = String(request.headers["x-scenario-key"] ?? "");
    const count = (this.#seen.get(key) ?? 0) + 1;
    this.#seen.set(key, count);
    // Keys are of one call each; the oldest are forgotten.
    if (this.#seen.size > 10_000) this.#seen.delete(this.#seen.keys().next().value!);
    return count <= fail ? 503 : status;
  }
}
