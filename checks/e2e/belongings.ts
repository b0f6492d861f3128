import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { root } from "./isthmus.ts";

// What a lab is to the machine, seen from outside: processes, namespaces, a folder.

const main = join(process.env["ISTHMUS_DIST"] ?? join(root, "dist"), "cli/main.js");

/** A lab that a command of this test's own brings up. */
export interface Running {
  readonly name: string;
  readonly folder: string;
  readonly up: ChildProcess;
  /** What the command printed so far. */
  readonly said: () => string;
}

let labs = 0;
/** Starts `lab up`, or another command that takes `--name` and `--mode`. Labs are kept in `home`. */
export function start(home: string, mode: string, command: readonly string[] = ["lab", "up"]): Running {
  const name = `t${++labs}`;
  const up = spawn(process.execPath, [main, ...command, "--name", name, "--mode", mode], {
    env: { ...process.env, ISTHMUS_LAB_HOME: home },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [up.stdout, up.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  return { name, folder: join(home, name), up, said: () => said };
}

export function isthmusIn(home: string, ...args: readonly string[]) {
  const env = { ...process.env, ISTHMUS_LAB_HOME: home };
  return spawnSync(process.execPath, [main, ...args], { env, encoding: "utf8", timeout: 60_000 });
}

export function pidIn(folder: string, file: string): number {
  return Number(readFileSync(join(folder, file), "utf8"));
}

export function kill(pid: number | undefined): void {
  if (pid !== undefined) process.kill(pid, "SIGKILL");
}

/** All processes of the machine: number, when it started (so that a number used again is another process), command. */
export function processes(): readonly { readonly pid: number; readonly started: string; readonly command: string }[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]!;
        return [{ pid: Number(entry), started, command: readFileSync(`/proc/${entry}/cmdline`, "utf8") }];
      } catch {
        return []; // It ended while we looked.
      }
    });
}

export function supervisorOf(folder: string): number | undefined {
  const found = processes().filter(({ command }) => /^[^\0]*node\0[^\0]*supervisor-main\.js\0/.test(command));
  return found.find(({ command }) => command.includes(folder))?.pid;
}

function namespace(pid: number, kind: "pid" | "net" | "mnt"): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return undefined;
  }
}

/** Every process and namespace of a lab: what names its folder, and what shares a namespace with its tree. */
export function belongings(folder: string) {
  const all = processes();
  const ours = namespace(process.pid, "pid");
  const named = all.filter(({ command }) => command.includes(folder));
  const trees = new Set(named.map(({ pid }) => namespace(pid, "pid")).filter((id) => id !== undefined && id !== ours));
  const members = all.filter(({ pid, command }) => command.includes(folder) || trees.has(namespace(pid, "pid")));
  const host = new Set([namespace(process.pid, "net"), namespace(process.pid, "mnt"), undefined]);
  const namespaces = members.flatMap(({ pid }) => [namespace(pid, "net"), namespace(pid, "mnt")]);
  const known = new Set(all.map(({ pid, started }) => `${pid} ${started}`));
  return { members, known, namespaces: new Set(namespaces.filter((id) => !host.has(id))) };
}

export async function nothingLeft(
  { folder }: Pick<Running, "folder">,
  before: ReturnType<typeof belongings>,
): Promise<void> {
  const left = () => {
    const known = new Set(before.members.map(({ pid, started }) => `${pid} ${started}`));
    const alive = processes().filter(
      ({ pid, started, command }) => known.has(`${pid} ${started}`) || command.includes(folder),
    );
    // The number of a namespace that is gone may be another one's by now: only who was there before can hold ours.
    const held = processes().filter(
      ({ pid, started }) =>
        before.known.has(`${pid} ${started}`) &&
        (["net", "mnt"] as const).some((kind) => before.namespaces.has(namespace(pid, kind) ?? "")),
    );
    const what = [...alive, ...held].map(({ pid, command }) => `${pid} ${command.replaceAll("\0", " ").slice(0, 100)}`);
    return [...new Set(what), ...(existsSync(folder) ? [`folder ${folder}`] : [])];
  };
  await until(
    () => `nothing to be left, there is ${left().join("; ")}`,
    () => left().length === 0,
    60_000,
  );
}

export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => void child.once("exit", () => resolve()));
}

export async function until(what: string | (() => string), holds: () => boolean, ms = 60_000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
