// One of the processes of `isthmus proxy --concurrency`: `worker-main.js LEVEL`, with a channel to the process that
// started it, from which it gets all that it needs. It ends when that one says so, or is gone. It loads the data path and
// nothing else, which is half of the memory that a whole proxy takes.
import { createLogger, Failure, type LogLevel, Metrics, Scope, systemClock } from "../../base/index.ts";
import type { Begin, ToWorker } from "./messages.ts";
import { runWorker, type ToPrimary } from "./run-worker.ts";

const level = (process.argv[2] ?? "info") as LogLevel;
const metrics = new Metrics();
metrics.collectProcess();
const scope = new Scope();

const primary: ToPrimary = {
  send: (message) => {
    if (process.connected) process.send?.(message, undefined, {}, () => {});
  },
  onMessage: (receive) => void process.on("message", (message, handle) => receive(message as ToWorker, handle)),
};

// Whoever signals the whole group means the first process of it, which tells us what is to be.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
// Nobody is there who could tell us of certificates and configuration, nor stop us.
process.once("disconnect", () => process.exit(0));

process.once("message", (begin: Begin) => {
  const log = createLogger({ level, name: "proxy" }).child({ worker: begin.worker });
  // A promise that nobody waited for is a bug of ours, said and survived: connections that run are worth more.
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection"));
  process.on("uncaughtException", (err) => log.error({ err, stack: err.stack }, "uncaught exception"));
  const onStop = (deadline: AbortSignal) =>
    void scope
      .close({ deadline })
      .catch((err: unknown) => log.error({ err }, "not all stopped cleanly"))
      .finally(() => process.exit(0));
  runWorker(begin, { primary, clock: systemClock, random: Math.random, log, metrics, onStop }, scope).catch(
    (caught: unknown) => {
      log.error({ err: Failure.from(caught) }, "worker could not be started");
      process.exit(1);
    },
  );
});
