import type { Clock } from "../../base/index.ts";

/** How long the parts of an HTTP/1 connection's life may take, in milliseconds; 0 for ever. */
export interface Http1Times {
  /** From the first byte of a head to its end. */
  readonly headersTimeoutMs: number;
  /** Without any request on the connection. */
  readonly idleTimeoutMs: number;
  /** Without a byte either way while a request runs. */
  readonly streamIdleTimeoutMs: number;
  /** From the first byte of a request to the last of its body. */
  readonly requestTimeoutMs: number;
}

/** How long the last answer is given to reach a client that still sends, in milliseconds. */
const lingerMs = 2000;
const never = Number.POSITIVE_INFINITY;

export type Waiting = "head" | "idle" | "stream" | "linger";

/** What a connection waits for, and until when. Asked once a second: nothing here costs a timer. */
export class Http1Deadlines {
  readonly #times: Http1Times;
  readonly #clock: Clock;
  #waiting: Waiting = "idle";
  #at: number;
  #requestAt = never;

  constructor(times: Http1Times, clock: Clock) {
    this.#times = times;
    this.#clock = clock;
    this.#at = this.#after(times.idleTimeoutMs);
  }

  onHeadBegins(): void {
    const now = this.#clock.monotonic();
    this.#waiting = "head";
    this.#at = now + this.#times.headersTimeoutMs;
    this.#requestAt = this.#times.requestTimeoutMs > 0 ? now + this.#times.requestTimeoutMs : never;
  }

  onHead(): void {
    this.#waiting = "stream";
    this.#at = this.#after(this.#times.streamIdleTimeoutMs);
  }

  onWholeRequest(): void {
    this.#requestAt = never;
  }

  /** Something moved: the stream is not idle. */
  onBytes(): void {
    if (this.#at !== never && this.#waiting === "stream") this.#at = this.#after(this.#times.streamIdleTimeoutMs);
  }

  onIdle(): void {
    this.#waiting = "idle";
    this.#at = this.#after(this.#times.idleTimeoutMs);
  }

  onLinger(): void {
    this.#waiting = "linger";
    this.#requestAt = never;
    this.#at = this.#clock.monotonic() + lingerMs;
  }

  /** What has not come in time: the rest of a request, or what is waited for. */
  missed(now: number): Waiting | "request" | undefined {
    if (now >= this.#requestAt) return "request";
    return now >= this.#at ? this.#waiting : undefined;
  }

  #after(ms: number): number {
    return ms > 0 ? this.#clock.monotonic() + ms : never;
  }
}
