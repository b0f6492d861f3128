import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Order, Report, Result } from "../../src/lab/apps/caller/order.ts";
import { toolEnv } from "../../src/lab/enclosure.ts";
import { enterLine } from "../../src/lab/exec.ts";
import type { TargetPlace } from "../../src/lab/protocol.ts";

/** The program inside one pod that makes calls as it is told. Ends with the pod, or when it is closed. */
export class Caller {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (results: readonly Result[]) => void; reject: (e: Error) => void }>();
  #orders = 0;
  #complaint = "";
  ended = false;

  constructor(options: { readonly folder: string; readonly place: TargetPlace; readonly program: string }) {
    const { folder, place, program } = options;
    const argv = [...enterLine(folder, place.holder!), process.execPath, program];
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: "/",
      env: { ...place.env, PATH: toolEnv()["PATH"] },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    createInterface({ input: child.stdout! }).on("line", (line) => {
      const { id, results, problem } = JSON.parse(line) as Report;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (results) waiting?.resolve(results);
      else waiting?.reject(new Error(`the caller in ${place.pod}: ${problem}`));
    });
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-2000);
    });
    child.stdin!.on("error", () => {}); // Its end is told by `close`.
    child.once("close", (code) => {
      this.ended = true;
      for (const { reject } of this.#waiting.values())
        reject(new Error(`the caller in ${place.pod} ended with ${code}: ${this.#complaint}`));
    });
  }

  make(order: Omit<Order, "id">): Promise<readonly Result[]> {
    const id = ++this.#orders;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin!.write(`${JSON.stringify({ id, ...order })}\n`);
    });
  }

  close(): void {
    this.#child.stdin!.end();
  }
}
