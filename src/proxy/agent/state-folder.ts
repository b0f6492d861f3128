import { chmod, lstat, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure, type Logger } from "../../base/index.ts";

/** A larger file is not read, and not written: state beyond this is not a proxy's. */
const sizeLimit = 512 * 1024 * 1024;

/** Who we are; undefined where files have no owners of this kind, nor folders that could be written through. */
const user = process.getuid?.();

/**
 * A folder that only this user can enter, and files in it that are replaced whole: what is read is always one that was
 * written to its end. What the disk refuses is said once, until it takes something again; nothing here ever throws.
 */
export class StateFolder {
  readonly #dir: string;
  readonly #log: Logger;
  /** The code of what was said last, by file. */
  readonly #said = new Map<string, string>();
  #usable: boolean | undefined;

  constructor(dir: string, log: Logger) {
    this.#dir = dir;
    this.#log = log;
  }

  /** The file's bytes; undefined when there is none, or none that can be had. */
  async read(name: string): Promise<Buffer | undefined> {
    const path = join(this.#dir, name);
    try {
      const problem = await this.#problem();
      if (problem !== undefined) throw problem;
      const { size } = await stat(path);
      if (size > sizeLimit) throw new Failure("agent/state-size", `${size} bytes are more than a proxy's state has`);
      return await readFile(path);
    } catch (caught) {
      if ((caught as NodeJS.ErrnoException).code !== "ENOENT")
        this.#log.warn({ file: path, err: Failure.from(caught) }, "state could not be read, starting without");
      return undefined;
    }
  }

  /** Replaces the file: the old one stays until the new one is on the disk. Whether that went well. */
  async write(name: string, encode: () => Uint8Array): Promise<boolean> {
    const path = join(this.#dir, name);
    const temporary = `${path}.tmp`;
    try {
      const problem = await this.#problem();
      if (problem !== undefined) throw problem;
      const bytes = encode();
      if (bytes.length > sizeLimit)
        throw new Failure("agent/state-size", `${bytes.length} bytes are more than a proxy's state may have`);
      const file = await open(temporary, "w", 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
      await this.#syncFolder();
    } catch (caught) {
      // Half a file takes space that others need; when even that cannot be removed, the reason is the same one.
      await rm(temporary, { force: true }).catch(() => {});
      this.#tell(name, Failure.from(caught));
      return false;
    }
    if (this.#said.delete(name)) this.#log.info({ file: path }, "state can be kept again");
    return true;
  }

  /** Without it, a machine that loses power may come up with the old name of the new file. */
  async #syncFolder(): Promise<void> {
    if (user === undefined) return;
    const folder = await open(this.#dir, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  /** Makes the folder, closed to others; why it is not fit for a key otherwise. */
  async #problem(): Promise<Failure | undefined> {
    if (this.#usable) return undefined;
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const found = await lstat(this.#dir);
    const refused = (why: string) =>
      new Failure("agent/state-folder", `"${this.#dir}" ${why}`, { hint: "give a folder of the proxy's own" });
    if (!found.isDirectory()) return refused("is no folder");
    if (user !== undefined && found.uid !== user) return refused(`belongs to user ${found.uid}`);
    if ((found.mode & 0o077) !== 0) await chmod(this.#dir, 0o700);
    this.#usable = true;
    return undefined;
  }

  #tell(name: string, failure: Failure): void {
    if (this.#said.get(name) === failure.code) return;
    this.#said.set(name, failure.code);
    // A folder that went away may come back.
    this.#usable = undefined;
    this.#log.warn({ file: join(this.#dir, name), err: failure }, "state could not be kept, going on without");
  }
}
