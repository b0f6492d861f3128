import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where each program of a control plane is, as the start of a command. */
export interface Machinery {
  readonly etcd: readonly string[];
  readonly "kube-apiserver": readonly string[];
  readonly "kube-controller-manager": readonly string[];
  readonly "kube-scheduler": readonly string[];
  readonly kubectl: readonly string[];
}

const names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"] as const;

/** Where scripts/install-kubernetes.sh puts what it builds, a folder a version. */
export function machineryHome(env: NodeJS.ProcessEnv): string {
  return join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "isthmus/kubernetes");
}

/**
 * One's own binaries (`TEST_ASSET_<NAME>`, then the folder `KUBEBUILDER_ASSETS`), else what the script has built. What is
 * missing, by name, when not all of them are there.
 */
export function findMachinery(env: NodeJS.ProcessEnv): Machinery | { readonly missing: readonly string[] } {
  const home = machineryHome(env);
  const versions = existsSync(home) ? readdirSync(home).filter((name) => name.startsWith("v")) : [];
  const folders = [
    ...(env["KUBEBUILDER_ASSETS"] ? [env["KUBEBUILDER_ASSETS"]] : []),
    ...versions.sort((a, b) => b.localeCompare(a, "en", { numeric: true })).map((version) => join(home, version)),
  ];
  const found = names.map((name) => {
    const own = env[`TEST_ASSET_${name.toUpperCase().replaceAll("-", "_")}`];
    // Any kubectl of the last years will do.
    const more = name === "kubectl" ? (env["PATH"] ?? "").split(":") : [];
    const place = own ?? [...folders, ...more].map((folder) => join(folder, name)).find((file) => existsSync(file));
    return [name, place] as const;
  });
  const missing = found.filter(([, place]) => place === undefined || !existsSync(place)).map(([name]) => name);
  if (missing.length > 0) return { missing };
  return Object.fromEntries(found.map(([name, place]) => [name, [place]])) as unknown as Machinery;
}

/** `TEST_ASSET_COREDNS`, else the newest that scripts/install-kubernetes.sh has built. */
export function coreDnsProgram(env: NodeJS.ProcessEnv): string | undefined {
  if (env["TEST_ASSET_COREDNS"]) return env["TEST_ASSET_COREDNS"];
  const home = machineryHome(env);
  const built = existsSync(home) ? readdirSync(home).filter((name) => name.startsWith("coredns-")) : [];
  const newest = built.sort((a, b) => b.localeCompare(a, "en", { numeric: true }))[0];
  return newest === undefined ? undefined : join(home, newest, "coredns");
}
