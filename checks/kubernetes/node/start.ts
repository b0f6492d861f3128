import { type ChildProcessByStdio, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { Scope } from "../../../src/base/index.ts";
import { ended } from "../../../src/lab/run.ts";
import type { TestNetwork } from "./network.ts";
import type { NodeCommand, NodeSettings } from "./node-main.ts";

export interface TestNodesOptions {
  readonly network: TestNetwork;
  /** A kubeconfig whose context of the cluster's name is an administrator's. */
  readonly kubeconfig: string;
  /** For logs: `<folder>/<cluster>/<namespace>/<pod>/<container>.<restarts>.log`, and the nodes' own `<folder>/nodes.log`. */
  readonly folder: string;
  /** Programs for images by their names without registry and tag, before the lab's table: `{ "coredns/coredns": ["/path/coredns"] }`. */
  readonly images?: Readonly<Record<string, readonly string[]>>;
  /** The Envoy that is on the path of containers of image `…/isthmus:…-envoy`. */
  readonly envoy?: string;
}

export interface TestNodes {
  /** Sends a signal to a container's process, as a crash would. Throws when it does not run. */
  signal(target: {
    readonly cluster: string;
    readonly namespace: string;
    readonly pod: string;
    readonly container: string;
    readonly signal: NodeJS.Signals;
  }): Promise<void>;
}

/** This package's folder. */
const root = join(import.meta.dirname, "../../..");
/** Until every node is registered and its rules are in force. */
const readyMs = 180_000;

type Word =
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "done"; readonly id: number; readonly done: boolean };

/** The nodes of all clusters, in one process. Resolves when each is registered and its rules are in force. */
export async function startTestNodes(options: TestNodesOptions, scope: Scope): Promise<TestNodes> {
  const folder = resolve(options.folder);
  mkdirSync(folder, { recursive: true });
  const settings: NodeSettings = {
    clusters: options.network.clusters.map(({ name, index, holders }) => ({ name, index, holders })),
    kubeconfig: resolve(options.kubeconfig),
    folder,
    root,
    images: options.images ?? {},
    ...(options.envoy === undefined ? {} : { envoy: options.envoy }),
  };
  const settingsFile = join(folder, "nodes.json");
  writeFileSync(settingsFile, JSON.stringify(settings));
  const logFile = join(folder, "nodes.log");
  const out = openSync(logFile, "a");
  const typescript = join(root, "checks/kubernetes/typescript.mjs");
  const line = [process.execPath, "--import", typescript, join(import.meta.dirname, "node-main.ts"), settingsFile];
  const [program, ...args] = options.network.enter(line, "/");
  const child = spawn(program!, args, { stdio: ["pipe", "pipe", out] }) as ChildProcessByStdio<
    Writable,
    Readable,
    null
  >;
  closeSync(out);
  scope.defer(async () => {
    child.stdin.end();
    child.kill("SIGTERM");
    await ended(child);
  });
  const waiting = new Map<number, (done: boolean) => void>();
  let asked = 0;
  await new Promise<void>((ready, fail) => {
    const lastWords = () => readFileSync(logFile, "utf8").trim().split("\n").slice(-5).join("\n");
    const timer = setTimeout(
      () => fail(new Error(`the test nodes are not ready after ${readyMs} ms\n${lastWords()}`)),
      readyMs,
    );
    const lost = (why: string) => {
      clearTimeout(timer);
      fail(new Error(`the test nodes ended: ${why}\n${lastWords()}`));
      for (const answer of waiting.values()) answer(false);
    };
    child.stdin.on("error", () => {});
    child.once("error", (error) => lost(error.message));
    child.once("exit", (code, signal) => lost(signal ?? `exit code ${code}`));
    createInterface({ input: child.stdout }).on("line", (text) => {
      const word = JSON.parse(text) as Word;
      if (word.kind === "done") {
        waiting.get(word.id)?.(word.done);
        waiting.delete(word.id);
        return;
      }
      clearTimeout(timer);
      if (word.kind === "ready") ready();
      else fail(new Error(word.message));
    });
  });
  return {
    signal: async (target) => {
      const id = ++asked;
      const done = await new Promise<boolean>((resolve) => {
        waiting.set(id, resolve);
        child.stdin.write(`${JSON.stringify({ id, op: "signal", ...target } satisfies NodeCommand)}\n`);
      });
      if (!done)
        throw new Error(`${target.namespace}/${target.pod}/${target.container} does not run in ${target.cluster}`);
    },
  };
}
