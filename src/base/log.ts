import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";

/** A line is an event in the past tense with fields: `log.info({ name, address }, "listener bound")`. */
export interface Logger {
  error(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  info(fields: object, event: string): void;
  debug(fields: object, event: string): void;
  child(fields: object): Logger;
}

export type LogLevel = "error" | "warn" | "info" | "debug" | "silent";
export const logLevels: readonly LogLevel[] = ["error", "warn", "info", "debug", "silent"];

/** One JSON line an event on `destination`, standard error unless told otherwise. */
export function createLogger(options: {
  readonly level: LogLevel;
  readonly name: string;
  readonly destination?: DestinationStream;
}): Logger {
  const destination = options.destination ?? pino.destination({ fd: 2, sync: true });
  const logger: PinoLogger = pino(
    {
      level: options.level,
      base: { part: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: "event",
      // The cause is what matters to who reads; a stack only where we ourselves are wrong.
      serializers: { err: errorFields },
    },
    destination,
  );
  return logger;
}

function errorFields(caught: unknown): object {
  if (!(caught instanceof Error)) return { message: String(caught) };
  const { code, hint } = caught as { code?: string; hint?: string };
  const stack = caught.message.startsWith("BUG:") || caught instanceof TypeError ? { stack: caught.stack } : {};
  return { message: caught.message, ...(code ? { code } : {}), ...(hint ? { hint } : {}), ...stack };
}

/** For tests and for parts whose lines nobody asked for. */
export const silentLogger: Logger = {
  error() {},
  warn() {},
  info() {},
  debug() {},
  child: () => silentLogger,
};
