import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect } from "vitest";
import {
  belongings,
  ended,
  isthmusIn,
  kill,
  nothingLeft,
  pidIn,
  type Running,
  start,
  supervisorOf,
  until,
} from "./belongings.ts";
import { testIn } from "./requirements.ts";

const home = mkdtempSync(join(tmpdir(), "ilab-"));
const isthmus = (...args: readonly string[]) => isthmusIn(home, ...args);
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** How far a lab has come when something happens to it. Each is seen from outside, in its folder. */
const moments = [
  { moment: "as it begins", reached: (folder: string) => existsSync(folder) },
  {
    moment: "when its control planes start",
    reached: (folder: string) => existsSync(join(folder, "logs", "cluster1", "controlplane.log")),
  },
  {
    moment: "when its pods start",
    reached: (folder: string) => existsSync(join(folder, "pods", "1-1", "token")),
  },
] as const;

/** What happens to it. The last three need its keeper and its supervisor to be there. */
const acts = [
  { act: "Ctrl-C", late: false, perform: async ({ up }: Running) => void up.kill("SIGINT") },
  {
    act: "kill -9 of the command",
    late: false,
    perform: async ({ up }: Running) => {
      up.kill("SIGKILL");
      await ended(up);
      // Killed before it had started a keeper, its folder goes with the next command.
      isthmus("lab", "list");
    },
  },
  { act: "kill -9 of the supervisor", late: true, perform: async ({ folder }: Running) => kill(supervisorOf(folder)) },
  {
    act: "kill -9 of the keeper",
    late: true,
    perform: async ({ folder, up }: Running) => {
      kill(pidIn(folder, "keeper.pid"));
      await ended(up);
      // The folder of a lab that nobody could clean up goes with the next command.
      isthmus("lab", "list");
    },
  },
  {
    act: "lab down",
    late: true,
    perform: async ({ name }: Running) => {
      expect(isthmus("lab", "down", "--name", name).status).toBe(0);
    },
  },
] as const;

// Every act in every mode and at every moment, but not every three of them together: each takes a lab.
for (const [m, mode] of (["netns", "userns", "explicit"] as const).entries()) {
  const run = await testIn(mode);
  describe(`in mode ${mode}`, () => {
    for (const [a, { act, late, perform }] of acts.entries()) {
      const { moment, reached } = moments[(a + m) % moments.length]!;
      run(
        `${act} ${moment} leaves nothing behind`,
        async () => {
          const lab = start(home, mode);
          await until(`the moment "${moment}"`, () => reached(lab.folder) || lab.up.exitCode !== null, 120_000);
          expect(lab.up.exitCode, lab.said()).toBe(null);
          if (late) {
            await until("its keeper", () => existsSync(join(lab.folder, "tree.pid")));
            await until("its supervisor", () => supervisorOf(lab.folder) !== undefined);
          }
          const before = belongings(lab.folder);
          await perform(lab);
          await ended(lab.up);
          await nothingLeft(lab, before);
        },
        400_000,
      );
    }
  });
}

const run = await testIn("explicit");
run("a second lab of the same name is refused, and the first one stays", async () => {
  const lab = start(home, "explicit");
  await until("its supervisor", () => existsSync(join(lab.folder, "control.sock")));
  const second = isthmus("lab", "up", "--name", lab.name, "--mode", "explicit");
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
