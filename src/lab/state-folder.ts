import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "../base/index.ts";
import { run } from "./run.ts";

/** Where each lab of this user keeps its files, by name. Short, because a Unix socket's path may have 104 bytes. */
export function labHome(): string {
  return process.env["ISTHMUS_LAB_HOME"] ?? join(tmpdir(), `isthmus-lab-${process.getuid?.() ?? "user"}`);
}

export function stateFolder(name: string): string {
  if (!/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(name)) {
    throw new Failure("lab/name", `"${name}" is no name for a lab`, {
      hint: "use up to 32 lower-case letters, digits and dashes",
    });
  }
  return join(labHome(), name);
}

/** The files of one lab. The keeper and every program find each other by these names alone. */
export function paths(folder: string) {
  return {
    folder,
    control: join(folder, "control.sock"),
    /** The process id of the keeper, and of the process that holds the lab's own process tree. */
    keeper: join(folder, "keeper.pid"),
    owner: join(folder, "owner.pid"),
    tree: join(folder, "tree.pid"),
    plan: join(folder, "plan.json"),
    ca: join(folder, "ca"),
    /** Admin sockets by number: names of pods can be too long for a socket's path. */
    sockets: join(folder, "s"),
    logs: join(folder, "logs"),
    supervisorLog: join(folder, "logs", "lab.log"),
    pods: join(folder, "pods"),
    cluster: (cluster: string) => join(folder, "clusters", cluster),
  } as const;
}

/** Makes the folder of a new lab. Refuses a name in use, and a home that another user could have prepared. */
export async function claimStateFolder(name: string): Promise<string> {
  const folder = stateFolder(name);
  const home = labHome();
  mkdirSync(home, { recursive: true, mode: 0o711 });
  const found = lstatSync(home);
  if (!found.isDirectory() || (process.getuid && found.uid !== process.getuid())) {
    throw new Failure("lab/home", `"${home}" is not a folder of this user`, {
      hint: "set ISTHMUS_LAB_HOME to a folder of your own",
    });
  }
  chmodSync(home, 0o711);
  await sweep();
  try {
    // Made beside and moved, so that a folder of this name always says whose it is.
    const part = `${folder}.${process.pid}.part`;
    mkdirSync(part, { mode: 0o711 });
    writeFileSync(join(part, "owner.pid"), String(process.pid));
    try {
      renameSync(part, folder);
    } catch (caught) {
      removeFolder(part);
      throw caught;
    }
  } catch (caught) {
    const code = (caught as NodeJS.ErrnoException).code ?? "";
    if (!["EEXIST", "ENOTEMPTY"].includes(code)) throw caught;
    throw new Failure("lab/name-in-use", `a lab named "${name}" is already there`, {
      hint: `"isthmus lab status --name ${name}" shows it, "isthmus lab down --name ${name}" takes it down, another name starts a second one`,
    });
  }
  return folder;
}

/** Names of the folders there are, dead or alive. */
export function folderNames(): readonly string[] {
  return folders().filter((name) => !name.endsWith(".part"));
}

function folders(): readonly string[] {
  if (!existsSync(labHome())) return [];
  return readdirSync(labHome(), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

/** Removes the folders of labs whose keeper is gone: both it and the lab were killed at once. */
export async function sweep(): Promise<void> {
  for (const name of folders()) {
    const folder = join(labHome(), name);
    if (!(await keeperLives(folder))) removeFolder(folder);
  }
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

/** Whether the process named in the folder lives and is this folder's keeper, not a later process of the same number. */
export async function keeperLives(folder: string): Promise<boolean> {
  const pid = readPid(paths(folder).keeper);
  if (pid !== undefined) return (await commandLine(pid)).includes(folder);
  // Until there is a keeper, the folder belongs to the command that made it.
  const owner = readPid(paths(folder).owner);
  return owner !== undefined && (await commandLine(owner)) !== "";
}

export function readPid(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, "utf8"));
    return Number.isInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    return undefined; // Not written yet, or gone with its folder.
  }
}

/** What a process was started with; empty when there is none of that number. */
export async function commandLine(pid: number): Promise<string> {
  if (process.platform === "linux") {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    } catch {
      return "";
    }
  }
  return (await run(["ps", "-o", "command=", "-p", String(pid)])).stdout;
}
