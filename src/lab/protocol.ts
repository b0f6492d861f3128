import { existsSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { Failure, type Scope } from "../base/index.ts";
import { paths, stateFolder, sweep } from "./state-folder.ts";
import type { LabStatus, LabTarget } from "./types.ts";

/** What is asked of a running lab over its control socket: one JSON line there, one back. */
export type LabRequest =
  | { readonly op: "status" }
  | {
      readonly op: "apply";
      readonly cluster: string;
      readonly text: string;
      readonly file: string;
      readonly namespace: string;
    }
  | {
      readonly op: "delete";
      readonly cluster: string;
      readonly objects: readonly { readonly kind: string; readonly namespace: string; readonly name: string }[];
    }
  | ({ readonly op: "target" } & LabTarget)
  | {
      readonly op: "crash";
      readonly cluster: string;
      readonly workload: string;
      readonly container: string;
      readonly signal: string;
    }
  /**
   * Sets how many pods a Deployment has, whatever its manifest says; undefined: as the manifest says. Pods that go have
   * `graceMs`, or what their manifest gives them.
   */
  | ({ readonly op: "scale"; readonly replicas?: number; readonly graceMs?: number } & LabTarget)
  /** Stops and continues the applications of all pods of a workload, or the proxy where there is no application. */
  | ({ readonly op: "signal"; readonly signal: string } & LabTarget)
  /** Resolves when every pod that is wanted is ready, none is left that is not, and the control planes know. */
  | { readonly op: "settle" }
  /** All pods of a workload, as `target` says one. */
  | ({ readonly op: "targets" } & LabTarget)
  | { readonly op: "down" };

/** Where a command for a pod is to run. */
export interface TargetPlace {
  readonly pod: string;
  readonly namespace: string;
  readonly container: string;
  /** The process that holds the pod's namespaces, by its number inside the lab; absent on loopback. */
  readonly holder?: number;
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** The admin socket of the pod's proxy; absent where there is none. */
  readonly admin?: string;
}

export type LabReply<R extends LabRequest["op"]> = R extends "status"
  ? LabStatus
  : R extends "apply" | "delete"
    ? readonly string[]
    : R extends "target"
      ? TargetPlace
      : R extends "targets"
        ? readonly TargetPlace[]
        : null;

type Envelope =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly hint?: string };

/** Longest line in bytes: manifests travel in it. */
const lineLimit = 64 * 1024 * 1024;

/** Serves the control socket. What `answer` throws goes back as a failure. */
export function serveControl(
  path: string,
  answer: (request: LabRequest) => Promise<unknown>,
  scope: Scope,
): Promise<Server> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    readLine(socket)
      .then(async (line): Promise<Envelope> => {
        try {
          return { ok: true, result: await answer(JSON.parse(line) as LabRequest) };
        } catch (caught) {
          const { code, message, hint } = Failure.from(caught);
          return { ok: false, code, message, ...(hint === undefined ? {} : { hint }) };
        }
      })
      .then((reply) => socket.end(`${JSON.stringify(reply)}\n`))
      .catch(() => socket.destroy());
  });
  scope.defer(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => resolve(server));
  });
}

function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (part: string) => {
      text += part;
      const end = text.indexOf("\n");
      if (end >= 0) resolve(text.slice(0, end));
      else if (text.length > lineLimit) reject(new Failure("lab/protocol", "line too long"));
    });
    socket.once("end", () => reject(new Failure("lab/protocol", "the other side hung up")));
    socket.once("error", reject);
  });
}

/** Asks a running lab. Throws `lab/not-running` when there is none of that name, and what the lab refused. */
export async function askLab<R extends LabRequest>(lab: string, request: R): Promise<LabReply<R["op"]>> {
  const { control } = paths(stateFolder(lab));
  const socket = connect({ path: control, allowHalfOpen: true });
  let line: string;
  try {
    socket.write(`${JSON.stringify(request)}\n`);
    line = await readLine(socket);
  } catch (caught) {
    const code = (caught as NodeJS.ErrnoException).code;
    await sweep();
    if (existsSync(stateFolder(lab)) && code === "ENOENT") {
      throw new Failure("lab/starting", `lab "${lab}" is only just starting`, { hint: "try again in a second" });
    }
    throw new Failure("lab/not-running", `no lab "${lab}" is running`, {
      hint: `"isthmus lab up --name ${lab}" starts one`,
    });
  } finally {
    socket.destroy();
  }
  const reply = JSON.parse(line) as Envelope;
  if (reply.ok) return reply.result as LabReply<R["op"]>;
  throw new Failure(reply.code, reply.message, reply.hint === undefined ? {} : { hint: reply.hint });
}
