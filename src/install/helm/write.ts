import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure } from "../../base/index.ts";
import { helmChart } from "./chart.ts";

/** Writes the chart into a folder and returns the files. Throws `install/chart` when one cannot be written. */
export function writeChart(dir: string, version: string): readonly string[] {
  return helmChart(version).map(({ path, text }) => {
    const file = join(dir, path);
    try {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    } catch (cause) {
      throw new Failure("install/chart", `cannot write "${file}": ${(cause as Error).message}`, { cause });
    }
    return file;
  });
}
