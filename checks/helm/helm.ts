import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** `HELM`, else the first on PATH, else the newest that scripts/install-helm.sh has built. */
export function helmProgram(env: NodeJS.ProcessEnv): string | undefined {
  if (env["HELM"]) return isProgram(env["HELM"]) ? env["HELM"] : undefined;
  const home = join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "isthmus/helm");
  const built = existsSync(home) ? readdirSync(home).filter((name) => name.startsWith("v")) : [];
  const folders = [
    ...(env["PATH"] ?? "").split(":").filter(Boolean),
    ...built.sort((a, b) => b.localeCompare(a, "en", { numeric: true })).map((version) => join(home, version)),
  ];
  return folders.map((folder) => join(folder, "helm")).find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
