import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect } from "vitest";
import type { LabMode } from "../../src/lab/index.ts";
import { testIn } from "./requirements.ts";

const dist = process.env["ISTHMUS_DIST"] ?? "dist";
const home = mkdtempSync(join(tmpdir(), "ilab-"));
const env = { ...process.env, ISTHMUS_LAB_HOME: home };
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** How far a lab has come when something happens to it. Each is seen from outside, in its folder. */
const moments = {
  "as it begins": (folder: string) => existsSync(folder),
  "when its control planes start": (folder: string) => existsSync(join(folder, "logs", "cluster1", "controlplane.log")),
  "when its pods start": (folder: string) => existsSync(join(folder, "pods", "1-1", "token")),
} as const;

/** What happens to it. */
const acts = {
  "Ctrl-C": async ({ up }: Running) => void up.kill("SIGINT"),
  "kill -9 of the command": async ({ up }: Running) => {
    up.kill("SIGKILL");
    await ended(up);
    // Killed before it had started a keeper, its folder goes with the next command.
    isthmus("lab", "list");
  },
  "kill -9 of the supervisor": async ({ folder }: Running) => kill(supervisorOf(folder)),
  "kill -9 of the keeper": async ({ folder, up }: Running) => {
    kill(pidIn(folder, "keeper.pid"));
    await ended(up);
    // The folder of a lab that nobody could clean up goes with the next command.
    isthmus("lab", "list");
  },
  "lab down": async ({ name }: Running) => {
    expect(isthmus("lab", "down", "--name", name).status).toBe(0);
  },
} as const;

interface Running {
  readonly name: string;
  readonly folder: string;
  readonly up: ChildProcess;
}

for (const mode of ["netns", "userns", "explicit"] as const) {
  const run = await testIn(mode);
  describe(`in mode ${mode}`, () => {
    for (const [moment, reached] of Object.entries(moments)) {
      for (const [act, perform] of Object.entries(acts)) {
        run(`${act} ${moment} leaves nothing behind`, async () => {
          const lab = start(mode);
          await until(`the moment "${moment}"`, () => reached(lab.folder) || lab.up.exitCode !== null);
          expect(lab.up.exitCode).toBe(null);
          if (act !== "Ctrl-C" && act !== "kill -9 of the command") {
            await until("its keeper", () => existsSync(join(lab.folder, "tree.pid")));
            await until("its supervisor", () => supervisorOf(lab.folder) !== undefined);
          }
          const before = belongings(lab.folder);
          await perform(lab);
          await ended(lab.up);
          await nothingLeft(lab, before);
        });
      }
    }
    run("a second lab of the same name is refused, and the first one stays", async () => {
      const lab = start(mode);
      await until("its supervisor", () => existsSync(join(lab.folder, "control.sock")));
      const second = isthmus("lab", "up", "--name", lab.name, "--mode", mode);
      expect(second.status).not.toBe(0);
      expect(second.stderr).toContain(`a lab named "${lab.name}" is already there`);
      expect(lab.up.exitCode).toBe(null);
      expect(existsSync(lab.folder)).toBe(true);
      const before = belongings(lab.folder);
      expect(isthmus("lab", "down", "--name", lab.name).stdout).toContain("stopped");
      expect(isthmus("lab", "down", "--name", lab.name).stdout).toContain("was not running");
      await ended(lab.up);
      await nothingLeft(lab, before);
    });
  });
}

let labs = 0;
function start(mode: LabMode): Running {
  const name = `t${++labs}`;
  const up = spawn(process.execPath, [join(dist, "cli/main.js"), "lab", "up", "--name", name, "--mode", mode], {
    env,
    stdio: "ignore",
  });
  return { name, folder: join(home, name), up };
}

function isthmus(...args: readonly string[]) {
  return spawnSync(process.execPath, [join(dist, "cli/main.js"), ...args], { env, encoding: "utf8", timeout: 60_000 });
}

function pidIn(folder: string, file: string): number {
  return Number(readFileSync(join(folder, file), "utf8"));
}

function kill(pid: number | undefined): void {
  if (pid !== undefined) process.kill(pid, "SIGKILL");
}

/** All processes of the machine: number, when it started (so that a number used again is another process), command. */
function processes(): readonly { readonly pid: number; readonly started: string; readonly command: string }[] {
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

function supervisorOf(folder: string): number | undefined {
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
function belongings(folder: string) {
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

async function nothingLeft({ folder }: Running, before: ReturnType<typeof belongings>): Promise<void> {
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
    10_000,
  );
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => void child.once("exit", () => resolve()));
}

async function until(what: string | (() => string), holds: () => boolean, ms = 60_000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
