import { createHash } from "node:crypto";
import { explain } from "../../base/index.ts";

// The form of the files in which an agent keeps what it would need again. One line that says what follows, with its
// checksum; then the length of a JSON head (32 bits, big-endian), the head, and the blobs whose sizes the head lists.
// Whatever was cut off, changed or made by another version does not pass for a file.

/** What a file holds: a head that says what the blobs are, and for which node. */
export interface StateFile {
  readonly kind: string;
  /** For whom it is: another node's state is never used. */
  readonly node: string;
  /** Unix time, milliseconds. */
  readonly savedMs: number;
  /** Plain data, as JSON. */
  readonly head: unknown;
  readonly blobs: readonly Uint8Array[];
}

export type ReadState =
  | { readonly ok: true; readonly file: StateFile }
  | { readonly ok: false; readonly reason: string };

const version = 1;
const firstLine = /^isthmus-state (\d{1,6}) ([0-9a-f]{64}) (\d{1,12})\n/;
/** Longer than any first line. */
const firstLineLimit = 128;

export function encodeStateFile(file: StateFile): Buffer {
  const { kind, node, savedMs, head, blobs } = file;
  const sizes = blobs.map((blob) => blob.length);
  const json = Buffer.from(JSON.stringify({ kind, node, savedMs, head, sizes }));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length);
  const parts = [length, json, ...blobs];
  const hash = createHash("sha256");
  let size = 0;
  for (const part of parts) {
    hash.update(part);
    size += part.length;
  }
  return Buffer.concat([Buffer.from(`isthmus-state ${version} ${hash.digest("hex")} ${size}\n`), ...parts]);
}

/** The file, if it is whole, of this version, of this kind and for this node. Never throws. */
export function decodeStateFile(bytes: Buffer, wanted: { readonly kind: string; readonly node: string }): ReadState {
  const line = firstLine.exec(bytes.subarray(0, firstLineLimit).toString("latin1"));
  if (!line) return refuse("it is no state file");
  const [whole, written, checksum, size] = line as unknown as [string, string, string, string];
  if (Number(written) !== version)
    return refuse(`it is of version ${written}, and this program reads version ${version}`);
  const body = bytes.subarray(whole.length);
  if (String(body.length) !== size) return refuse(`it has ${body.length} bytes where ${size} were written`);
  if (createHash("sha256").update(body).digest("hex") !== checksum) return refuse("its checksum is wrong");
  try {
    return readBody(body, wanted);
  } catch (caught) {
    // With a checksum that is right this is another program's idea of the same version.
    return refuse(`it cannot be read: ${explain(caught)}`);
  }
}

function readBody(body: Buffer, wanted: { readonly kind: string; readonly node: string }): ReadState {
  const end = 4 + body.readUInt32BE(0);
  const { kind, node, savedMs, head, sizes } = JSON.parse(body.subarray(4, end).toString("utf8")) as {
    readonly kind: unknown;
    readonly node: unknown;
    readonly savedMs: unknown;
    readonly head: unknown;
    readonly sizes: unknown;
  };
  if (kind !== wanted.kind) return refuse(`it holds "${String(kind)}", not "${wanted.kind}"`);
  if (node !== wanted.node) return refuse("it is another proxy's, or this one was told other things of itself then");
  if (typeof savedMs !== "number" || !Array.isArray(sizes)) return refuse("its head is incomplete");
  const blobs: Uint8Array[] = [];
  let at = end;
  for (const size of sizes as readonly unknown[]) {
    if (!Number.isInteger(size) || (size as number) < 0 || at + (size as number) > body.length)
      return refuse("its parts are longer than it is");
    // A copy: a slice would keep the whole file in memory for as long as one part is in use.
    blobs.push(new Uint8Array(body.subarray(at, at + (size as number))));
    at += size as number;
  }
  if (at !== body.length) return refuse("it holds more than its head lists");
  return { ok: true, file: { kind, node: wanted.node, savedMs, head, blobs } };
}

function refuse(reason: string): { readonly ok: false; readonly reason: string } {
  return { ok: false, reason };
}
