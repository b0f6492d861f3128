import { constants } from "node:fs";
import { access, readdir, stat } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { explain, Failure } from "../../../base/index.ts";
import { compareVersions, type EnvoyBinary, examineEnvoy, oldestEnvoy } from "./binary.ts";

/** Where Envoy may be, in the order in which it is looked for. */
export interface EnvoyPlaces {
  /** What somebody said: it is this one, or it is an error. */
  readonly setting: string | undefined;
  /** The folders of `PATH`. */
  readonly path: string | undefined;
  /** The folder with a folder for each installed version. */
  readonly cache: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The places that a process's environment names. `setting` goes before its `ISTHMUS_ENVOY`. */
export function envoyPlaces(environment: Environment, setting?: string): EnvoyPlaces {
  const named = setting ?? environment["ISTHMUS_ENVOY"];
  return { setting: named === "" ? undefined : named, path: environment["PATH"], cache: envoyCache(environment) };
}

/** By the rules for cache folders: an `XDG_CACHE_HOME` that is no absolute path does not count. */
export function envoyCache(environment: Environment): string {
  const { XDG_CACHE_HOME: given, HOME: home } = environment;
  const base = given !== undefined && isAbsolute(given) ? given : join(home || "/", ".cache");
  return join(base, "isthmus", "envoy");
}

/**
 * The Envoy to run. Throws `envoy/not-found` when there is none, saying what was found instead and what to do; of the one
 * that was asked for it throws what is wrong with that.
 */
export async function locateEnvoy(places: EnvoyPlaces): Promise<EnvoyBinary> {
  if (places.setting !== undefined) return examineEnvoy(places.setting);
  const unfit: string[] = [];
  for (const candidate of [...(await onPath(places.path)), ...(await inCache(places.cache))]) {
    try {
      return await examineEnvoy(candidate);
    } catch (caught) {
      // The next place may have a better one.
      unfit.push(explain(caught));
    }
  }
  const seen = unfit.length > 0 ? `; not usable: ${unfit.join("; ")}` : "";
  throw new Failure("envoy/not-found", `no Envoy ${oldestEnvoy} or newer on PATH or in "${places.cache}"${seen}`, {
    hint: "isthmus envoy install, or name one with --envoy FILE or ISTHMUS_ENVOY",
  });
}

/** The first one, as a shell would take it. */
async function onPath(path: string | undefined): Promise<readonly string[]> {
  for (const dir of (path ?? "").split(delimiter)) {
    const candidate = join(dir, "envoy");
    if (isAbsolute(candidate) && (await isExecutable(candidate))) return [candidate];
  }
  return [];
}

/** The newest first. */
async function inCache(cache: string): Promise<readonly string[]> {
  const versions = await readdir(cache).catch((caught: NodeJS.ErrnoException) => {
    if (caught.code === "ENOENT" || caught.code === "EACCES") return [];
    throw new Failure("envoy/not-found", `cannot look into "${cache}": ${caught.message}`, { cause: caught });
  });
  const found: string[] = [];
  for (const version of versions.filter((name) => /^\d+\./.test(name)).sort((a, b) => compareVersions(b, a))) {
    const candidate = join(cache, version, "envoy");
    if (await isExecutable(candidate)) found.push(candidate);
  }
  return found;
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
