import { type Logger, Scope, systemClock } from "../base/index.ts";

/**
 * Runs a service until SIGTERM or SIGINT, then drains and stops it; a second signal stops it at once. What fails to
 * start is thrown, with everything that had started stopped again. What `start` gives is called before anything stops.
 */
export async function runUntilSignalled(
  options: { readonly log: Logger; readonly drainMs: number },
  start: (scope: Scope) => Promise<void | (() => Promise<void>)>,
): Promise<void> {
  const { log, drainMs } = options;
  const scope = new Scope();
  let stopping = false;
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (stopping || scope.closed) process.exit(1);
        resolve(signal);
      });
    }
  });
  // A promise that nobody waited for is a bug of ours, said and survived: connections that run are worth more.
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection"));
  process.on("uncaughtException", (err) => log.error({ err, stack: err.stack }, "uncaught exception"));
  try {
    const started = start(scope);
    const first = await Promise.race([started.then((retire) => ({ retire })), signalled]);
    if (typeof first === "object") {
      log.info({ signal: await signalled }, "stopping");
      stopping = true;
      await first.retire?.().catch((err) => log.warn({ err }, "not all was handed over before stopping"));
    } else {
      log.info({ signal: first }, "stopping before it was up");
      // What it still tried to start finds its scope closed; that is no news.
      started.catch((err) => log.debug({ err }, "start cut off"));
    }
  } catch (caught) {
    await scope.close().catch((err) => log.debug({ err }, "not all stopped cleanly after a failed start"));
    throw caught;
  }
  await scope.close({ drainMs, clock: systemClock });
  log.info({}, "stopped");
  // What is left (a socket that will not close, a timer of a library) must not keep a stopped service alive.
  process.exit(0);
}
