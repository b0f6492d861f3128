import { readResources } from "./read.ts";
import { resourceKey } from "./resource.ts";
import type { Violation } from "./violation.ts";

export interface FileText {
  readonly file: string;
  readonly text: string;
}

/** What is to be said of files before they are used. They are good when `errors` is 0. */
export interface Validation {
  readonly violations: readonly Violation[];
  readonly counts: {
    readonly files: number;
    /** Objects that are good. */
    readonly resources: number;
    /** Objects of kinds that are not read. */
    readonly ignored: number;
    readonly errors: number;
    readonly warnings: number;
  };
}

/** Everything that is wrong with a set of files, as a folder source would find it, in the order of the files. */
export function validateFiles(
  files: readonly FileText[],
  options: { readonly cluster?: string; readonly defaultNamespace?: string } = {},
): Validation {
  const { cluster = "", ...rest } = options;
  const violations: Violation[] = [];
  const places = new Map<string, string>();
  let [resources, ignored] = [0, 0];
  for (const { file, text } of files) {
    const reading = readResources(text, { cluster, file, ...rest });
    violations.push(...reading.violations);
    ignored += reading.ignored;
    for (const { kind, metadata, origin } of reading.resources) {
      const key = resourceKey({ cluster, kind, ...metadata });
      const { line = 1 } = origin;
      const first = places.get(key);
      if (first === undefined) {
        resources++;
        places.set(key, `${file}:${line}`);
        continue;
      }
      const name = metadata.namespace === "" ? metadata.name : `${metadata.namespace}/${metadata.name}`;
      const message = `${kind} ${name} stands at ${first} already; remove or rename one of the two`;
      violations.push({ file, line, column: 1, path: "metadata.name", message, code: "ISM0901", severity: "error" });
    }
  }
  const errors = violations.filter(({ severity }) => severity === "error").length;
  const counts = { files: files.length, resources, ignored, errors, warnings: violations.length - errors };
  return { violations, counts };
}
