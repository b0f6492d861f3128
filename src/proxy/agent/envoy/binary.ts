import { execFile } from "node:child_process";
import { Failure } from "../../../base/index.ts";

/** Envoy as it lies on this machine. */
export interface EnvoyBinary {
  readonly path: string;
  /** As it says itself: `1.40.0`. */
  readonly version: string;
}

/** The first version whose configuration language has all that the control plane says. */
export const oldestEnvoy = "1.36.0";
/** What is installed when nobody asks for another. */
export const installedEnvoy = "1.40.0";

/** For a program of a hundred megabytes that may have to come from a slow disk. */
const answerMs = 30_000;

/** Asks the program which version it is. Throws `envoy/binary` when it is none, `envoy/too-old` before `oldestEnvoy`. */
export async function examineEnvoy(path: string): Promise<EnvoyBinary> {
  const said = await new Promise<string>((resolve, reject) => {
    execFile(path, ["--version"], { encoding: "utf8", timeout: answerMs }, (cause, stdout, stderr) => {
      if (!cause) return resolve(stdout);
      const why = (stderr.trim().split("\n").at(-1) || cause.message).slice(0, 300);
      reject(
        new Failure("envoy/binary", `"${path}" does not run: ${why}`, {
          cause,
          hint: "run it with --version by hand; this user must be allowed to execute it",
        }),
      );
    });
  });
  const version = /version: [0-9a-f]+\/(\d+\.\d+\.\d+)/.exec(said)?.[1];
  if (version === undefined)
    throw new Failure(
      "envoy/binary",
      `"${path}" is no Envoy: it answers --version with "${said.trim().slice(0, 100)}"`,
    );
  if (compareVersions(version, oldestEnvoy) < 0)
    throw new Failure("envoy/too-old", `"${path}" is Envoy ${version}, and ${oldestEnvoy} or newer is needed`, {
      hint: "isthmus envoy install",
    });
  return { path, version };
}

/** Of two versions, numbers with dots between; negative when the first is the older one. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(".").map((part) => Number.parseInt(part, 10) || 0)) as [
    number[],
    number[],
  ];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
