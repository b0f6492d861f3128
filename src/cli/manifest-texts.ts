import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Failure } from "../base/index.ts";
import { codes, type Violation, yamlLimits } from "../resources/index.ts";
import { type FileText, listFiles, readText } from "../sources/index.ts";

/** What stands behind the arguments of `-f`: texts, what is wrong with a file as a whole, and what could not be read. */
export interface ManifestTexts {
  readonly texts: ReadonlyArray<{ readonly file: string; readonly text: string }>;
  readonly violations: readonly Violation[];
  readonly unreadable: readonly Failure[];
}

/** Files, folders with the folders in them, pipes, and `-` for standard input. */
export async function readManifests(args: readonly string[]): Promise<ManifestTexts> {
  const texts: Array<{ readonly file: string; readonly text: string }> = [];
  const violations: Violation[] = [];
  const unreadable: Failure[] = [];
  const take = (file: string, read: FileText) => {
    if (read.kind === "text") texts.push({ file, text: read.text });
    else if (read.kind === "gone") unreadable.push(notThere(file));
    else if (read.code === "ISM0902") unreadable.push(new Failure("file/unreadable", `"${file}" ${read.message}`));
    else {
      const { code, message } = read;
      violations.push({ file, line: 1, column: 1, path: "", message, code, severity: codes[code].severity });
    }
  };
  for (const file of args) {
    if (file === "-") {
      take(file, await readStream(process.stdin));
      continue;
    }
    try {
      const found = await stat(file);
      if (found.isFile()) take(file, await readText(file));
      else if (!found.isDirectory()) take(file, await readStream(createReadStream(file)));
      else await readFolder(file);
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      unreadable.push(
        code === "ENOENT"
          ? notThere(file)
          : new Failure("file/unreadable", `cannot read "${file}": ${message}`, { cause }),
      );
    }
  }
  return { texts, violations, unreadable };

  async function readFolder(dir: string): Promise<void> {
    const files = await listFiles(dir, (path, cause) => {
      unreadable.push(new Failure("file/unreadable", `cannot read "${path}": ${(cause as Error).message}`, { cause }));
    });
    // A folder without manifests is most likely another one than was meant: nothing was looked at.
    if (files.length === 0) {
      unreadable.push(
        new Failure("file/empty-folder", `no manifests in "${dir}"`, { hint: "files end in .yaml, .yml or .json" }),
      );
    }
    for (const file of files) take(file, await readText(file));
  }
}

function notThere(file: string): Failure {
  return new Failure("file/unreadable", `cannot read "${file}": there is no such file or folder`);
}

/** A stream to its end, or as far as a text may go. */
async function readStream(stream: AsyncIterable<unknown>): Promise<FileText> {
  const longest = yamlLimits.textLength * 3;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += (chunk as Buffer).length;
    if (size > longest) return { kind: "unreadable", code: "ISM0102", message: `is longer than ${longest} bytes` };
    chunks.push(chunk as Buffer);
  }
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { kind: "text", text: decoder.decode(Buffer.concat(chunks)) };
  } catch {
    return { kind: "unreadable", code: "ISM0903", message: "is not UTF-8; save it in that encoding" };
  }
}
