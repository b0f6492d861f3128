/** What else is known about a failure. */
export interface FailureOptions {
  /** What to try, in a few words. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/**
 * The world failed: a connection, a file, a program. (A wrong input is a value, not a `Failure`; a bug is an
 * `unreachable`.) `code` is stable and listed in docs/errors.md; `message` says what, with the value in quotes, and why.
 */
export class Failure extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "Failure";
    this.code = code;
    this.hint = options.hint;
  }

  /** Turns anything caught into a `Failure`; one that is a `Failure` already stays what it is. */
  static from(caught: unknown, code = "unexpected"): Failure {
    if (caught instanceof Failure) return caught;
    if (caught instanceof Error) return new Failure(systemCode(caught) ?? code, caught.message, { cause: caught });
    return new Failure(code, String(caught));
  }
}

function systemCode(error: Error): string | undefined {
  const code = (error as NodeJS.ErrnoException).code;
  return typeof code === "string" ? `system/${code}` : undefined;
}

/** Adds where it happened, and nothing more: a layer's own name in front of what went wrong below it. */
export function within(where: string, caught: unknown): Failure {
  const inner = Failure.from(caught);
  return new Failure(inner.code, `${where}: ${inner.message}`, {
    ...(inner.hint === undefined ? {} : { hint: inner.hint }),
    cause: inner,
  });
}

/** The failure for a person: message, then the hint in brackets. */
export function explain(caught: unknown): string {
  const failure = Failure.from(caught);
  const hint = failure.hint === undefined ? "" : ` [${failure.hint}]`;
  return `${failure.message}${hint} (${failure.code})`;
}

/** Marks what cannot be: reaching it is a bug of ours, never of an input. */
export function unreachable(value: never): never {
  throw new Error(`BUG: unexpected ${JSON.stringify(value)}`);
}
