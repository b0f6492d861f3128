import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** A program that our scripts build: the one that `setting` names, else the first on PATH, else the newest that was built. */
export function builtProgram(env: NodeJS.ProcessEnv, setting: string, name: string): string | undefined {
  const named = env[setting];
  if (named) return isProgram(named) ? named : undefined;
  const home = join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "isthmus", name);
  const built = existsSync(home) ? readdirSync(home).filter((version) => version.startsWith("v")) : [];
  const folders = [
    ...(env["PATH"] ?? "").split(":").filter(Boolean),
    ...built.sort((a, b) => b.localeCompare(a, "en", { numeric: true })).map((version) => join(home, version)),
  ];
  return folders.map((folder) => join(folder, name)).find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
