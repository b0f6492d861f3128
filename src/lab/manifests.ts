import { createHash } from "node:crypto";
import {
  type FSWatcher,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  watch,
  writeFileSync,
} from "node:fs";
import { basename, join, relative } from "node:path";
import { type Clock, Failure, type Logger, type Scope, type Timer } from "../base/index.ts";
import {
  formatViolation,
  kinds,
  plainObjects,
  type Resource,
  readResources,
  type Violation,
} from "../resources/index.ts";
import { substitute, type Variables } from "./variables.ts";

export interface ManifestsOptions {
  readonly cluster: string;
  readonly folders: readonly string[];
  /** Folders that the control plane reads: copies of the user's files, and what was applied. */
  readonly copyFolder: string;
  readonly appliedFolder: string;
  /** The system's own objects: below everything else. */
  readonly systemFolder: string;
  readonly system: readonly object[];
  readonly variables: Variables;
  /** What is done to each object before the control plane sees it; undefined where objects stay as they are written. */
  readonly rewrite: ((object: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>) | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onChange: () => void;
}

/** How long folders must have been quiet before they are read again: editors write in several steps. */
const quietMs = 100;
/** A folder is looked at again after this time in any case: not every file system tells of changes. */
const lookAgainMs = 5_000;

/**
 * The objects of one cluster: the system's, then those of the user's folders (watched), then those applied by command;
 * a later one of the same name covers an earlier one. All are on disk as files too, for the control plane to read.
 */
export class Manifests {
  readonly #options: ManifestsOptions;
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: Timer | undefined;
  #layers: readonly [Layer, Layer, Layer] = [new Map(), new Map(), new Map()];
  /** The text of each user's file when it was last read, and the copy that was made. */
  readonly #copies = new Map<string, { readonly text: string; readonly copy: string }>();
  readonly #layerOfFile = new Map<string, readonly Resource[]>();
  #problems: readonly string[] = [];

  constructor(options: ManifestsOptions, scope: Scope) {
    this.#options = options;
    for (const folder of [options.copyFolder, options.appliedFolder, options.systemFolder]) {
      mkdirSync(folder, { recursive: true });
    }
    const system = options.system.map((object) => JSON.stringify(object)).join("\n---\n");
    writeFileSync(join(options.systemFolder, "system.yaml"), `${system}\n`);
    const read = readResources(system, { cluster: options.cluster });
    if (read.violations.length > 0) {
      throw new Failure(
        "lab/profile",
        `BUG: the lab's own objects: ${read.violations.map(formatViolation).join("; ")}`,
      );
    }
    this.#layers = [layerOf(read.resources), new Map(), new Map()];
    this.#readFolders();
    scope.defer(() => {
      this.#timer?.cancel();
      for (const watcher of this.#watchers.values()) watcher.close();
    });
    this.#lookLater(lookAgainMs);
  }

  /** Violations of the user's files, with the places in the files that the user wrote. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  get resources(): ReadonlyMap<string, Resource> {
    return new Map(this.#layers.flatMap((layer) => [...layer]));
  }

  /** Stores these objects as if an API server had taken them. Throws a `Failure` with every violation of any of them. */
  apply(text: string, options: { readonly file: string; readonly namespace: string }): readonly string[] {
    const { cluster, variables, appliedFolder } = this.#options;
    const filled = substitute(text, variables);
    const { resources, violations } = readResources(filled.text, {
      cluster,
      file: options.file,
      defaultNamespace: options.namespace,
    });
    refuse(violations, filled.unknown, options.file, variables);
    const said: string[] = [];
    const { rewrite = (object) => object } = this.#options;
    const plain = plainObjects(filled.text).map(rewrite);
    for (const object of plain) {
      const [resource] = readResources(JSON.stringify(object), {
        cluster,
        defaultNamespace: options.namespace,
      }).resources;
      if (!resource) {
        said.push(`${String(object["kind"])} ${nameOf(object)} ignored: the mesh does not read this kind`);
        continue;
      }
      const key = layerKey(resource);
      const file = join(appliedFolder, `${fileName(key)}.yaml`);
      const metadata = { ...(object["metadata"] as object), namespace: resource.metadata.namespace || undefined };
      writeAtomic(file, `${JSON.stringify({ ...object, metadata })}\n`);
      said.push(
        `${key.split("/")[0]!.toLowerCase()}/${resource.metadata.name} ${this.resources.has(key) ? "configured" : "created"}`,
      );
    }
    const applied = new Map(this.#layers[2]);
    for (const resource of resources) applied.set(layerKey(resource), resource);
    this.#layers = [this.#layers[0], this.#layers[1], applied];
    this.#options.onChange();
    return said;
  }

  /** Forgets objects that were applied. What comes from the user's own files cannot be deleted here, and that is said. */
  delete(
    objects: readonly { readonly kind: string; readonly namespace: string; readonly name: string }[],
  ): readonly string[] {
    const said: string[] = [];
    const applied = new Map(this.#layers[2]);
    for (const wanted of objects) {
      const kind = fullKind(wanted.kind);
      const shown = `${kind.toLowerCase()}/${wanted.name}`;
      const keys = [`${kind}/${wanted.namespace}/${wanted.name}`, `${kind}//${wanted.name}`];
      const key = keys.find((candidate) => applied.has(candidate));
      if (key !== undefined) {
        applied.delete(key);
        rmSync(join(this.#options.appliedFolder, `${fileName(key)}.yaml`), { force: true });
        said.push(`${shown} deleted`);
        continue;
      }
      const elsewhere = keys.map((candidate) => this.#layers[1].get(candidate)).find((found) => found !== undefined);
      if (elsewhere) {
        throw new Failure("lab/delete", `${shown} comes from "${elsewhere.origin.file}"`, {
          hint: "remove it from that file; the lab follows",
        });
      }
      if (keys.some((candidate) => this.#layers[0].has(candidate))) {
        throw new Failure("lab/delete", `${shown} belongs to the lab itself`);
      }
      const near = [...applied.keys()].filter((candidate) => candidate.startsWith(`${kind}/`));
      throw new Failure("lab/delete", `there is no ${shown} in namespace "${wanted.namespace}"`, {
        hint: near.length > 0 ? `there is ${near.join(", ")}` : "nothing of this kind was applied",
      });
    }
    this.#layers = [this.#layers[0], this.#layers[1], applied];
    this.#options.onChange();
    return said;
  }

  #lookLater(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(ms, () => {
      this.#readFolders();
      this.#lookLater(lookAgainMs);
    });
  }

  #readFolders(): void {
    const { folders, copyFolder, variables, cluster } = this.#options;
    const seen = new Set<string>();
    const problems: string[] = [];
    let changed = false;
    for (const folder of folders) {
      for (const file of this.#files(folder, problems)) {
        seen.add(file);
        let text: string;
        try {
          text = readFileSync(file, "utf8");
        } catch (caught) {
          problems.push(`${file}: cannot be read: ${(caught as Error).message}`);
          continue;
        }
        const filled = substitute(text, variables);
        for (const name of filled.unknown) problems.push(`${file}: nobody knows \${${name}}: ${hintFor(variables)}`);
        const { resources, violations } = readResources(filled.text, { cluster, file });
        problems.push(...violations.map(formatViolation));
        if (this.#copies.get(file)?.text === filled.text) continue;
        changed = true;
        const copy = join(copyFolder, `${copyName(folder, file)}.yaml`);
        writeAtomic(copy, this.#copyOf(filled.text, file, violations.length === 0));
        this.#copies.set(file, { text: filled.text, copy });
        this.#layerOfFile.set(file, lastGood(this.#layerOfFile.get(file) ?? [], resources, violations));
      }
    }
    for (const [file, { copy }] of this.#copies) {
      if (seen.has(file)) continue;
      rmSync(copy, { force: true });
      this.#copies.delete(file);
      this.#layerOfFile.delete(file);
      changed = true;
    }
    this.#problems = problems;
    if (!changed) return;
    this.#layers = [this.#layers[0], layerOf([...this.#layerOfFile.values()].flat()), this.#layers[2]];
    this.#options.onChange();
  }

  /** The copy keeps every line where it is, so places in it are places in the original; unless objects are rewritten. */
  #copyOf(text: string, file: string, good: boolean): string {
    const { rewrite } = this.#options;
    const body =
      rewrite && good
        ? plainObjects(text)
            .map((object) => JSON.stringify(rewrite(object)))
            .join("\n---\n")
        : text;
    return `${body}${body.endsWith("\n") ? "" : "\n"}# Copied from ${file}\n`;
  }

  /** YAML and JSON files below a folder; each folder on the way is watched from now on. */
  #files(folder: string, problems: string[]): readonly string[] {
    try {
      if (!this.#watchers.has(folder)) {
        const watcher = watch(folder, () => this.#lookLater(quietMs));
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
          if (entry.isDirectory()) return this.#files(path, problems);
          return /\.(ya?ml|json)$/.test(entry.name) ? [path] : [];
        });
    } catch (caught) {
      problems.push(`${folder}: cannot be read: ${(caught as Error).message}`);
      return [];
    }
  }
}

type Layer = ReadonlyMap<string, Resource>;

/** Within one cluster, kind, namespace and name tell objects apart. */
function layerKey({ kind, metadata }: Resource): string {
  return `${kind}/${metadata.namespace}/${metadata.name}`;
}

function layerOf(resources: readonly Resource[]): Layer {
  return new Map(resources.map((resource) => [layerKey(resource), resource]));
}

/** A file with a mistake in it keeps the objects that it had and that cannot be read now. */
function lastGood(
  before: readonly Resource[],
  now: readonly Resource[],
  violations: readonly Violation[],
): readonly Resource[] {
  if (!violations.some(({ severity }) => severity === "error")) return now;
  const fresh = new Set(now.map(layerKey));
  return [...before.filter((resource) => !fresh.has(layerKey(resource))), ...now];
}

function refuse(
  violations: readonly Violation[],
  unknown: readonly string[],
  file: string,
  variables: Variables,
): void {
  const wrong = violations.filter(({ severity }) => severity === "error").map(formatViolation);
  for (const name of unknown) wrong.push(`${file}: nobody knows \${${name}}: ${hintFor(variables)}`);
  if (wrong.length === 0) return;
  throw new Failure("input/manifest", `nothing was applied:\n${wrong.join("\n")}`);
}

function hintFor(variables: Variables): string {
  return `there is ${Object.keys(variables).join(", ")}`;
}

/** `serviceentry`, `se` or `ServiceEntry` to `ServiceEntry`. */
function fullKind(word: string): string {
  const short: Readonly<Record<string, string>> = {
    se: "ServiceEntry",
    vs: "VirtualService",
    dr: "DestinationRule",
    gw: "Gateway",
    we: "WorkloadEntry",
    svc: "Service",
    po: "Pod",
    deploy: "Deployment",
    ns: "Namespace",
    sa: "ServiceAccount",
  };
  const known = Object.keys(kinds);
  const lower = word.toLowerCase().split(".")[0]!;
  const found =
    short[lower] ??
    known.find((kind) => [kind, `${kind}s`, kind.replace(/y$/, "ies")].some((form) => form.toLowerCase() === lower));
  if (found) return found;
  throw new Failure("input/kind", `there is no kind "${word}"`, { hint: `there is ${known.join(", ")}` });
}

function nameOf(object: Readonly<Record<string, unknown>>): string {
  const metadata = object["metadata"] as { name?: unknown } | undefined;
  return `"${String(metadata?.name ?? "")}"`;
}

function fileName(key: string): string {
  return key.replaceAll("/", "_");
}

function copyName(folder: string, file: string): string {
  const place = createHash("sha256").update(folder).digest("hex").slice(0, 8);
  return `${place}-${relative(folder, file).replaceAll(/[/\\]/g, "_") || basename(file)}`;
}

/** The file appears whole under its name, so a reader never sees half of it. The part is hidden, for watchers. */
export function writeAtomic(file: string, text: string): void {
  const part = join(file, "..", `.${basename(file)}.part`);
  writeFileSync(part, text);
  renameSync(part, file);
}
