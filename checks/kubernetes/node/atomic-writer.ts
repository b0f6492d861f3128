import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { VolumeFile } from "./volume-files.ts";

/** Who owns what is written, where that is not the node itself. */
export interface Owners {
  /** Group of all files (`fsGroup`). */
  readonly group: number | undefined;
  /** User of tokens. */
  readonly tokenUser: number | undefined;
}

/**
 * Puts files into a volume so that its readers see all of the old or all of the new: they stand in a folder of their own,
 * `..data` leads to it and is replaced by a rename, and every name in the volume leads through `..data` (a kubelet's
 * AtomicWriter). Writes nothing when nothing is different. Says whether it wrote.
 */
export function writeVolume(folder: string, files: readonly VolumeFile[], owners: Owners): boolean {
  const current = currentFolder(folder);
  if (current !== undefined && holds(join(folder, current), files)) return false;
  const fresh = mkdtempSync(join(folder, "..revision-"));
  own(fresh, 0o755, owners, true);
  for (const file of files) {
    const target = join(fresh, file.path);
    const parents = file.path.split("/").slice(0, -1);
    for (const [depth] of parents.entries()) {
      const parent = join(fresh, ...parents.slice(0, depth + 1));
      mkdirSync(parent, { recursive: true });
      own(parent, 0o755, owners, true);
    }
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, file.bytes);
    const restricted = file.token && (owners.group !== undefined || owners.tokenUser !== undefined);
    own(target, restricted ? 0o600 : file.mode, owners, false);
    if (file.token && owners.tokenUser !== undefined) chownSync(target, owners.tokenUser, owners.group ?? 0);
  }
  const link = join(folder, "..data_tmp");
  rmSync(link, { force: true });
  symlinkSync(fresh.slice(folder.length + 1), link);
  renameSync(link, join(folder, "..data"));
  const wanted = new Set(files.map(({ path }) => path.split("/")[0]!));
  const there = readdirSync(folder).filter((name) => !name.startsWith(".."));
  for (const name of wanted) if (!there.includes(name)) symlinkSync(join("..data", name), join(folder, name));
  for (const name of there) if (!wanted.has(name)) unlinkSync(join(folder, name));
  if (current !== undefined) rmSync(join(folder, current), { recursive: true, force: true });
  return true;
}

function own(path: string, mode: number, { group }: Owners, isFolder: boolean): void {
  if (group !== undefined) chownSync(path, 0, group);
  // As a kubelet does for a group that is to read its volumes.
  chmodSync(path, group === undefined ? mode : mode | (isFolder ? 0o2770 : 0o440));
}

function currentFolder(folder: string): string | undefined {
  try {
    return readlinkSync(join(folder, "..data"));
  } catch {
    return undefined; // Nothing was written yet.
  }
}

function holds(folder: string, files: readonly VolumeFile[]): boolean {
  const there = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  if (there.length !== files.length) return false;
  return files.every(({ path, bytes }) => {
    try {
      return readFileSync(join(folder, path)).equals(bytes);
    } catch {
      return false;
    }
  });
}
