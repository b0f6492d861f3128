import { type FSWatcher, readdirSync, watch } from "node:fs";
import { join } from "node:path";
import type { Clock, Scope, Timer } from "../base/index.ts";

/** How long folders must have been quiet before they are read again: editors write in several steps. */
const quietMs = 100;
/** A folder is looked at again after this time in any case: not every file system tells of changes. */
const lookAgainMs = 5_000;

/** Folders below which something may change; `look` is called when it may have. */
export class FolderWatch {
  readonly #clock: Clock;
  readonly #look: () => void;
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: Timer | undefined;

  constructor(options: { readonly clock: Clock; readonly look: () => void }, scope: Scope) {
    this.#clock = options.clock;
    this.#look = options.look;
    scope.defer(() => {
      this.#timer?.cancel();
      for (const watcher of this.#watchers.values()) watcher.close();
    });
    this.#later(lookAgainMs);
  }

  #later(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(ms, () => {
      this.#look();
      this.#later(lookAgainMs);
    });
  }

  /** YAML and JSON files below a folder; each folder on the way is watched from now on. */
  files(folder: string, problems: string[]): readonly string[] {
    try {
      if (!this.#watchers.has(folder)) {
        const watcher = watch(folder, () => this.#later(quietMs));
        watcher.on("error", () => {
          watcher.close();
          this.#watchers.delete(folder);
        });
        this.#watchers.set(folder, watcher);
      }
      return readdirSync(folder, { withFileTypes: true })
        .filter((entry) => !entry.name.startsWith("."))
        .sort((a, b) => a.name.localeCompare(b.name))
        .flatMap((entry) => {
          const path = join(folder, entry.name);
          if (entry.isDirectory()) return this.files(path, problems);
          return /\.(ya?ml|json)$/.test(entry.name) ? [path] : [];
        });
    } catch (caught) {
      problems.push(`${folder}: cannot be read: ${(caught as Error).message}`);
      return [];
    }
  }
}
