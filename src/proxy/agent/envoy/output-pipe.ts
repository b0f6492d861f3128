import { execFile } from "node:child_process";
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { type Clock, explain, Failure, type Scope } from "../../../base/index.ts";
import { eachLine } from "./lines.ts";

/**
 * A pipe for the standard output of a program that opens `/dev/stdout` by name, which is refused for the sockets that the
 * runtime gives its children, and for a file or pipe of another user. Returns the descriptor to give away.
 */
export async function startOutputPipe(
  options: { readonly path: string; readonly onLine: (line: string) => void; readonly clock: Clock },
  scope: Scope,
): Promise<number> {
  const { path, onLine, clock } = options;
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    execFile("mkfifo", ["-m", "600", path], (cause) => {
      if (!cause) return resolve();
      reject(new Failure("envoy/pipe", `cannot make the pipe "${path}": ${explain(cause)}`, { cause }));
    });
  });
  // Without blocking, since nobody writes yet; then our own end for writing, so that the pipe outlives each program.
  const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writing = openSync(path, constants.O_WRONLY);
  const stream = new Socket({ fd: reading, readable: true, writable: false });
  eachLine(stream, onLine);
  scope.defer(async () => {
    closeSync(writing);
    rmSync(path, { force: true });
    // What is in the pipe still is read to its end, which comes when the last writer is gone.
    await new Promise<void>((resolve) => {
      const patience = clock.after(lastWordsMs, () => stream.destroy());
      stream.once("close", () => {
        patience.cancel();
        resolve();
      });
      if (stream.closed) resolve();
    });
  });
  return writing;
}

const lastWordsMs = 1_000;
