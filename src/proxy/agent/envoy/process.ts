import { type ChildProcess, execFile, spawn } from "node:child_process";
import { backoffMs, type Clock, Failure, type Logger, type Metrics, type Scope, sleep } from "../../../base/index.ts";
import { askEnvoy } from "./ask-envoy.ts";
import type { EnvoyAdmin } from "./bootstrap.ts";
import { eachLine } from "./lines.ts";

export interface EnvoyProcessOptions {
  readonly binary: string;
  readonly bootstrapFile: string;
  readonly admin: EnvoyAdmin;
  /** Where its standard output goes; it must be one that can be opened again by name. */
  readonly output: number;
  /** Worker threads; as many as processors unless told otherwise. */
  readonly concurrency: number | undefined;
  readonly logLevel: string;
}

export interface EnvoyProcess {
  /** Why it does not run; undefined while it does. */
  readonly down: string | undefined;
}

/** A run longer than `settledMs` counts as a good one. */
const restart = { firstMs: 250, maxMs: 15_000 };
const settledMs = 10_000;
/** How often is looked whether all callers are gone while it drains. */
const drainLookMs = 200;
/** From SIGTERM to its end. */
const endMs = 3_000;
/** Counted as connections come and go; `server.total_connections` is not, but every five seconds (the stats flush interval). */
const openConnections = "/stats?usedonly&filter=^listener\\..*downstream_cx_active$";

/** Whether anybody but who asks the admin interface is connected, in an answer to the question above. */
export function hasOpenConnections(stats: string): boolean {
  return /^listener\.(?!admin\.).*: [1-9]\d*$/m.test(stats);
}

/**
 * Keeps Envoy running: started again, with growing waits, when it ends by itself. When the scope closes it is asked to
 * drain, and to end as soon as no connection is left or the time for draining is over.
 */
export async function startEnvoyProcess(
  options: EnvoyProcessOptions,
  deps: { readonly clock: Clock; readonly random: () => number; readonly log: Logger; readonly metrics: Metrics },
  scope: Scope,
): Promise<EnvoyProcess> {
  const { clock, random, metrics } = deps;
  const log = deps.log.child({ part: "envoy" });
  const running = metrics.gauge("isthmus_envoy_running", "Whether Envoy runs, 1 or 0.");
  const restarts = metrics.counter("isthmus_envoy_restarts_total", "How often Envoy ended by itself.");
  const argv = [...(await dyingWithUs()), options.binary, ...argumentsOf(options)];
  let child: ChildProcess | undefined;
  let down: string | undefined = "not started yet";
  let failures = 0;

  function start(): void {
    if (scope.closed) return;
    const startedAt = clock.monotonic();
    const own = spawn(argv[0]!, argv.slice(1), { stdio: ["ignore", options.output, "pipe"], cwd: "/" });
    child = own;
    down = undefined;
    running.set(1);
    let lastWords = "";
    eachLine(own.stderr!, (line) => {
      const said = readLogLine(line);
      if (said.level === "error") lastWords = said.text;
      log[said.level]({ logger: said.logger }, said.text);
    });
    const onEnd = (why: string) => {
      if (child !== own) return;
      child = undefined;
      running.set(0);
      failures = clock.monotonic() - startedAt > settledMs ? 1 : failures + 1;
      down = `Envoy ${why}${lastWords === "" ? "" : `: ${lastWords.slice(0, 500)}`}`;
      if (scope.closed) return;
      const waitMs = backoffMs(failures, restart, random);
      log.error({ why: down, failures, waitMs }, "Envoy ended by itself");
      restarts.inc();
      const timer = clock.after(waitMs, start);
      scope.defer(() => timer.cancel());
    };
    own.once("error", (error) => onEnd(`cannot be started: ${error.message}`));
    // When it has ended and all that it said has come.
    own.once("close", (code, signal) => onEnd(signal ? `was ended by ${signal}` : `ended with exit code ${code}`));
    log.info({ pid: own.pid, failures }, "Envoy started");
  }

  start();
  scope.defer(async (deadline) => {
    const last = child;
    if (!last) return;
    await drain(last, deadline);
    await end(last);
  });

  async function drain(last: ChildProcess, deadline: AbortSignal): Promise<void> {
    if (deadline.aborted) return;
    try {
      await askEnvoy(options.admin, "POST", "/drain_listeners?graceful&skip_exit");
      while (!deadline.aborted && last.exitCode === null && last.signalCode === null) {
        const { text } = await askEnvoy(options.admin, "GET", openConnections);
        if (!hasOpenConnections(text)) return;
        await sleep(clock, drainLookMs, deadline).catch(() => {});
      }
    } catch (caught) {
      log.warn({ err: Failure.from(caught) }, "Envoy could not be drained");
    }
  }

  async function end(last: ChildProcess): Promise<void> {
    if (last.exitCode !== null || last.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => last.once("exit", () => resolve()));
    last.kill("SIGTERM");
    const patience = new AbortController();
    sleep(clock, endMs, patience.signal).then(
      () => last.kill("SIGKILL"),
      () => {},
    );
    await gone;
    patience.abort();
    log.info({}, "Envoy stopped");
  }

  return {
    get down() {
      return down;
    },
  };
}

function argumentsOf(options: EnvoyProcessOptions): readonly string[] {
  return [
    "-c",
    options.bootstrapFile,
    // Nothing is handed from one run to the next: all of it comes from the control plane.
    "--disable-hot-restart",
    // Lines of the access log reach their readers while these still remember the call.
    "--file-flush-interval-msec",
    "500",
    "--drain-strategy",
    "immediate",
    "--log-level",
    options.logLevel,
    "--log-format",
    "%l\t%n\t%v",
    ...(options.concurrency === undefined ? [] : ["--concurrency", String(options.concurrency)]),
  ];
}

const levels: Readonly<Record<string, "debug" | "info" | "warn" | "error">> = {
  trace: "debug",
  debug: "debug",
  info: "info",
  warning: "warn",
  error: "error",
  critical: "error",
};

/** A line of Envoy's log in the format above; what is none (a message's second line) is told as it is. */
export function readLogLine(line: string) {
  const [level = "", logger = "", ...text] = line.split("\t");
  const known = Object.hasOwn(levels, level) ? levels[level] : undefined;
  return known && text.length > 0
    ? { level: known, logger, text: text.join("\t") }
    : { level: "info" as const, logger: "", text: line };
}

/**
 * What to put before a command so that the kernel ends it when this process dies in whatever way: otherwise a killed agent
 * leaves a proxy behind that nobody drains and whose keys nobody renews. Nothing where the tool is missing.
 */
async function dyingWithUs(): Promise<readonly string[]> {
  const prefix = ["setpriv", "--pdeathsig", "KILL", "--"];
  const works = await new Promise<boolean>((resolve) => {
    execFile(prefix[0]!, [...prefix.slice(1), "true"], (failed) => resolve(!failed));
  });
  return works ? prefix : [];
}
