import { renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

/** The file appears whole under its name, so a reader never sees half of it. The part is hidden, for watchers. */
export function writeAtomic(file: string, text: string): void {
  const part = join(file, "..", `.${basename(file)}.part`);
  writeFileSync(part, text);
  renameSync(part, file);
}
