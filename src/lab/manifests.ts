import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure, type Scope } from "../base/index.ts";
import { formatViolation, plainObjects, type Resource, readResources, type Violation } from "../resources/index.ts";
import { keysOf, type Layer, layerOf, type ObjectName, objectKey, readObject } from "./object-key.ts";
import { UserFiles, type UserFilesOptions } from "./user-files.ts";
import { hintFor, substitute, type Variables } from "./variables.ts";
import { writeAtomic } from "./write-atomic.ts";

export interface ManifestsOptions extends UserFilesOptions {
  /** What was applied by command, for the control plane to read. */
  readonly appliedFolder: string;
  /** The system's own objects: below everything else. */
  readonly systemFolder: string;
  readonly system: readonly object[];
}

/**
 * The objects of one cluster: the system's, then those of the user's folders (watched), then those applied by command;
 * a later one of the same name covers an earlier one. All are on disk as files too, for the control plane to read.
 */
export class Manifests {
  readonly #options: ManifestsOptions;
  readonly #system: Layer;
  readonly #files: UserFiles;
  #applied: Layer = new Map();

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
    this.#system = layerOf(read.resources);
    this.#files = new UserFiles(options, scope);
  }

  /** Violations of the user's files, with the places in the files that the user wrote. */
  get problems(): readonly string[] {
    return this.#files.problems;
  }

  get resources(): ReadonlyMap<string, Resource> {
    return new Map([...this.#system, ...this.#files.layer, ...this.#applied]);
  }

  /** Stores these objects as if an API server had taken them. Throws a `Failure` with every violation of any of them. */
  apply(text: string, options: { readonly file: string; readonly namespace: string }): readonly string[] {
    const { cluster, variables } = this.#options;
    const filled = substitute(text, variables);
    const context = { cluster, defaultNamespace: options.namespace };
    const { resources, violations } = readResources(filled.text, { ...context, file: options.file });
    refuse(violations, filled.unknown, options.file, variables);
    const said: string[] = [];
    const { rewrite = (object) => object } = this.#options;
    for (const object of plainObjects(filled.text).map(rewrite)) {
      const resource = readObject(object, context);
      if (!resource) {
        said.push(`${String(object["kind"])} ${nameOf(object)} ignored: the mesh does not read this kind`);
        continue;
      }
      const key = objectKey(resource);
      const metadata = { ...(object["metadata"] as object), namespace: resource.metadata.namespace || undefined };
      writeAtomic(this.#appliedFile(key), `${JSON.stringify({ ...object, metadata })}\n`);
      said.push(
        `${key.split("/")[0]!.toLowerCase()}/${resource.metadata.name} ${this.resources.has(key) ? "configured" : "created"}`,
      );
    }
    const applied = new Map(this.#applied);
    for (const resource of resources) {
      applied.set(objectKey(resource), resource);
      this.#files.restore(objectKey(resource));
    }
    this.#applied = applied;
    this.#options.onChange();
    return said;
  }

  /**
   * Deletes objects, all or none. One that stands in a file of the user's folders stays away until the file says
   * something else of it, or until it is applied again. Throws a `Failure` for the first that is not there.
   */
  delete(objects: readonly ObjectName[]): readonly string[] {
    const found = objects.map((wanted) => this.#toDelete(wanted));
    const applied = new Map(this.#applied);
    const said = found.map(({ key, shown }) => {
      // First what is below, so that it never shows.
      const files = this.#files.delete(key);
      applied.delete(key);
      rmSync(this.#appliedFile(key), { force: true });
      return files.length === 0
        ? `${shown} deleted`
        : `${shown} deleted; it stands in ${files.join(" and ")} still and comes back when that changes`;
    });
    this.#applied = applied;
    this.#options.onChange();
    return said;
  }

  #toDelete(wanted: ObjectName): { readonly key: string; readonly shown: string } {
    const { kind, shown, keys } = keysOf(wanted);
    const key = keys.find((candidate) => this.#applied.has(candidate) || this.#files.layer.has(candidate));
    if (key !== undefined) return { key, shown };
    if (keys.some((candidate) => this.#system.has(candidate))) {
      throw new Failure("lab/delete", `${shown} belongs to the lab itself`);
    }
    const near = [...this.#files.layer.keys(), ...this.#applied.keys()].filter((other) => other.startsWith(`${kind}/`));
    throw new Failure("lab/delete", `there is no ${shown} in namespace "${wanted.namespace}"`, {
      hint: near.length > 0 ? `there is ${[...new Set(near)].join(", ")}` : `there is no object of kind ${kind}`,
    });
  }

  #appliedFile(key: string): string {
    return join(this.#options.appliedFolder, `${key.replaceAll("/", "_")}.yaml`);
  }
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

function nameOf(object: Readonly<Record<string, unknown>>): string {
  const metadata = object["metadata"] as { name?: unknown } | undefined;
  return `"${String(metadata?.name ?? "")}"`;
}
