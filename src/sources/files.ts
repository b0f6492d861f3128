import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Code, codes, type Reading, readResources, yamlLimits } from "../resources/index.ts";

/** Whether a file of this name is read. Hidden ones are editors' and Kubernetes' own business. */
export function isResourceFile(name: string): boolean {
  return !name.startsWith(".") && /\.(ya?ml|json)$/i.test(name);
}

/** Folders inside one another that are looked into. */
const deepest = 16;

/**
 * The files of a folder, with those of the folders in it, by name. Links are followed, once. Throws what the file
 * system says when the folder itself cannot be read; a folder inside it that cannot is passed to `unreadable`.
 */
export async function listFiles(dir: string, unreadable: (path: string, cause: unknown) => void): Promise<string[]> {
  const files: string[] = [];
  const seen = new Set<string>();
  const visit = async (folder: string, depth: number): Promise<void> => {
    const real = await realpath(folder);
    if (seen.has(real) || depth > deepest) return;
    seen.add(real);
    for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(folder, entry.name);
      if (entry.name.startsWith(".")) continue;
      const folderHere = entry.isDirectory() || (entry.isSymbolicLink() && (await isFolder(path)));
      if (folderHere) await visit(path, depth + 1).catch((cause: unknown) => unreadable(path, cause));
      else if (isResourceFile(entry.name)) files.push(path);
    }
  };
  await visit(dir, 0);
  return files;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false, // A link to nothing is told of when it is read as a file.
  );
}

export type FileText =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "gone" }
  /** There, but not to be read; `message` says why. */
  | { readonly kind: "unreadable"; readonly code: Code; readonly message: string };

/** UTF-8 takes at most three bytes for one unit of the text limit. */
const longestFile = yamlLimits.textLength * 3;

export async function readText(path: string): Promise<FileText> {
  try {
    const found = await stat(path);
    if (!found.isFile()) return { kind: "unreadable", code: "ISM0902", message: "is not a regular file" };
    if (found.size > longestFile) {
      const message = `is ${found.size} bytes long, and at most ${longestFile} are read; split it into several files`;
      return { kind: "unreadable", code: "ISM0102", message };
    }
    return {
      kind: "text",
      text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await readFile(path)),
    };
  } catch (caught) {
    const { code, message } = caught as NodeJS.ErrnoException;
    if (code === "ENOENT") return { kind: "gone" };
    if (code === "ERR_ENCODING_INVALID_ENCODED_DATA")
      return { kind: "unreadable", code: "ISM0903", message: "is not UTF-8; save it in that encoding" };
    return { kind: "unreadable", code: "ISM0902", message: `cannot be read: ${message}` };
  }
}

/** What a file says, its objects' last good values to be kept where it cannot be read. */
export function readingOf(
  text: FileText & { kind: "text" | "unreadable" },
  context: { cluster: string; file: string; defaultNamespace?: string },
): Reading {
  if (text.kind === "text") return readResources(text.text, context);
  const { code, message } = text;
  const violation = { file: context.file, line: 1, column: 1, path: "", message, code, severity: codes[code].severity };
  return { resources: [], violations: [violation], wrong: [], complete: false, ignored: 0 };
}
