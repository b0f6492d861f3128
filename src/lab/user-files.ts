import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { type Clock, explain, type Scope } from "../base/index.ts";
import {
  cutObjects,
  formatViolation,
  plainObjects,
  type Resource,
  readResources,
  type Violation,
} from "../resources/index.ts";
import { FolderWatch } from "./folder-watch.ts";
import { type Layer, layerOf, objectKey, readObject } from "./object-key.ts";
import { hintFor, substitute, type Variables } from "./variables.ts";
import { writeAtomic } from "./write-atomic.ts";

export type PlainObject = Readonly<Record<string, unknown>>;

export interface UserFilesOptions {
  readonly cluster: string;
  readonly folders: readonly string[];
  /** The folder that the control plane reads. */
  readonly copyFolder: string;
  readonly variables: Variables;
  /** What is done to each object before the control plane sees it; undefined where objects stay as they are written. */
  readonly rewrite: ((object: PlainObject) => PlainObject) | undefined;
  readonly clock: Clock;
  readonly onChange: () => void;
}

interface UserFile {
  /** With the variables' values in place. */
  readonly text: string;
  readonly copy: string;
  /** What was written to the copy last. */
  readonly copied: string;
  /** What it defines, the last good value of each object; deleted ones too. */
  readonly resources: readonly Resource[];
}

/**
 * The files of the folders that a user gave, followed as they change, with a copy of each for the control plane. An
 * object can be deleted although it stands in a file: that holds until the file says something else of the object.
 */
export class UserFiles {
  readonly #options: UserFilesOptions;
  readonly #watch: FolderWatch;
  readonly #files = new Map<string, UserFile>();
  /** Key of each deleted object to what the files said of it then. */
  readonly #deleted = new Map<string, ReadonlySet<string>>();
  #layer: Layer = new Map();
  #problems: readonly string[] = [];

  constructor(options: UserFilesOptions, scope: Scope) {
    this.#options = options;
    this.#watch = new FolderWatch({ clock: options.clock, look: () => this.#look() }, scope);
    this.#read();
  }

  /** What the files define and nobody deleted. */
  get layer(): Layer {
    return this.#layer;
  }

  /** What is wrong with the files, with the places in the files that the user wrote. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Deletes an object. Says in which files it still stands; empty when it stood in none. */
  delete(key: string): readonly string[] {
    const found = [...this.#files].flatMap(([file, { text }]) =>
      plainObjects(text)
        .filter((object) => this.#keyOf(object) === key)
        .map((object) => ({ file, said: JSON.stringify(object) })),
    );
    if (found.length === 0) return [];
    this.#deleted.set(key, new Set(found.map(({ said }) => said)));
    this.#read();
    return [...new Set(found.map(({ file }) => file))];
  }

  /** Ends a deletion: the object was created anew. What the files say of it holds again below that. */
  restore(key: string): void {
    if (this.#deleted.delete(key)) this.#read();
  }

  #look(): void {
    if (this.#read()) this.#options.onChange();
  }

  /** Whether anything was other than before. */
  #read(): boolean {
    const seen = new Set<string>();
    const problems: string[] = [];
    let changed = false;
    for (const folder of this.#options.folders) {
      for (const file of this.#watch.files(folder, problems)) {
        seen.add(file);
        try {
          changed = this.#readFile(folder, file, problems) || changed;
        } catch (caught) {
          problems.push(`${file}: cannot be read: ${explain(caught)}`);
        }
      }
    }
    for (const [file, { copy }] of this.#files) {
      if (seen.has(file)) continue;
      rmSync(copy, { force: true });
      this.#files.delete(file);
      changed = true;
    }
    this.#problems = problems;
    if (!changed) return false;
    this.#forget();
    this.#layer = layerOf([...this.#files.values()].flatMap((file) => this.#alive(file)));
    return true;
  }

  /** What a file defines and nobody deleted. */
  #alive({ text, resources }: UserFile): readonly Resource[] {
    if (this.#deleted.size === 0) return resources;
    const deleted = plainObjects(text).filter((object) => this.#isDeleted(object));
    const gone = new Set(deleted.map((object) => this.#keyOf(object)));
    return resources.filter((resource) => !gone.has(objectKey(resource)));
  }

  #readFile(folder: string, file: string, problems: string[]): boolean {
    const { variables, cluster, copyFolder } = this.#options;
    const { text, unknown } = substitute(readFileSync(file, "utf8"), variables);
    for (const name of unknown) problems.push(`${file}: nobody knows \${${name}}: ${hintFor(variables)}`);
    const { resources, violations } = readResources(text, { cluster, file });
    problems.push(...violations.map(formatViolation));
    const before = this.#files.get(file);
    const copied = this.#copyOf(text, file, violations.length === 0);
    if (before?.text === text && before.copied === copied) return false;
    const copy = join(copyFolder, `${copyName(folder, file)}.yaml`);
    if (before?.copied !== copied) writeAtomic(copy, copied);
    const known = before === undefined ? [] : before.text === text ? before.resources : this.#alive(before);
    this.#files.set(file, { text, copy, copied, resources: lastGood(known, resources, violations) });
    return true;
  }

  /** The copy keeps every line where it is, so places in it are places in the original; unless objects are rewritten. */
  #copyOf(text: string, file: string, good: boolean): string {
    const { rewrite } = this.#options;
    const kept = this.#deleted.size === 0 ? text : cutObjects(text, (object) => this.#isDeleted(object));
    const body =
      rewrite && good
        ? plainObjects(kept)
            .map((object) => JSON.stringify(rewrite(object)))
            .join("\n---\n")
        : kept;
    return `${body}${body.endsWith("\n") ? "" : "\n"}# Copied from ${file}\n`;
  }

  #keyOf(object: PlainObject): string | undefined {
    const resource = readObject(object, { cluster: this.#options.cluster });
    return resource && objectKey(resource);
  }

  #isDeleted(object: PlainObject): boolean {
    if (this.#deleted.size === 0) return false;
    const key = this.#keyOf(object);
    return key !== undefined && (this.#deleted.get(key)?.has(JSON.stringify(object)) ?? false);
  }

  /** Deletions end with the text that they were about. */
  #forget(): void {
    if (this.#deleted.size === 0) return;
    const said = new Set(
      [...this.#files.values()].flatMap(({ text }) => plainObjects(text)).map((object) => JSON.stringify(object)),
    );
    for (const [key, texts] of this.#deleted) {
      if (![...texts].some((text) => said.has(text))) this.#deleted.delete(key);
    }
  }
}

/** A file with a mistake in it keeps the objects that it had and that cannot be read now. */
function lastGood(
  before: readonly Resource[],
  now: readonly Resource[],
  violations: readonly Violation[],
): readonly Resource[] {
  if (!violations.some(({ severity }) => severity === "error")) return now;
  const fresh = new Set(now.map(objectKey));
  return [...before.filter((resource) => !fresh.has(objectKey(resource))), ...now];
}

function copyName(folder: string, file: string): string {
  const place = createHash("sha256").update(folder).digest("hex").slice(0, 8);
  return `${place}-${relative(folder, file).replaceAll(/[/\\]/g, "_") || basename(file)}`;
}
