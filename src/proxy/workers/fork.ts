import { fork, type Serializable } from "node:child_process";
import { type Logger, type LogLevel, programFile } from "../../base/index.ts";
import type { FromWorker } from "./messages.ts";
import type { StartWorker } from "./workers.ts";

/** The program that a worker is. */
export interface WorkerProgram {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The program of this package. */
export function workerProgram(options: {
  readonly logLevel: LogLevel;
  readonly env: WorkerProgram["env"];
}): WorkerProgram {
  return {
    file: programFile("proxy", "workers", "worker-main.js"),
    args: [options.logLevel],
    // The runtime's event loop then lets the others' turn come after each connection that it accepts, so that connections
    // which come at once are shared more evenly.
    env: { ...options.env, UV_TCP_SINGLE_ACCEPT: "1" },
  };
}

/** Workers as child processes, with this process's standard output and error. They end when their channel does. */
export function forkWorkers(program: WorkerProgram, deps: { readonly log: Logger }): StartWorker {
  return (worker, on) => {
    const child = fork(program.file, program.args, {
      env: { ...program.env },
      // Configuration is bytes, which the default would write as text.
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    let ended = false;
    const end = (why: string) => {
      if (ended) return;
      ended = true;
      on.ended(why);
    };
    child.on("message", (message) => {
      if (!ended) on.message(message as FromWorker);
    });
    child.once("error", (cause) => {
      deps.log.error({ worker, err: cause }, "worker failed");
      child.kill("SIGKILL");
      // One that never began has no end.
      if (child.pid === undefined) end(`could not be started: ${cause.message}`);
    });
    child.once("exit", (code, signal) => end(signal === null ? `exited with code ${code}` : `was ended by ${signal}`));
    return {
      pid: child.pid,
      // One that is gone already has its end told of in its own time.
      send: (message, handle) => {
        if (child.connected) child.send(message as unknown as Serializable, handle as never, () => {});
      },
      kill: () => void child.kill("SIGKILL"),
    };
  };
}
