import { basename, relative, resolve } from "node:path";
import { type FSWatcher, watch } from "chokidar";
import { type Clock, Failure, type Logger, type Scope, sleep, type Timer } from "../base/index.ts";
import { formatViolation } from "../resources/index.ts";
import { type FileText, isResourceFile, listFiles, readingOf, readText } from "./files.ts";
import type { Layer, UnitUpdate } from "./source.ts";
import type { ResourceStore } from "./store.ts";

export interface FolderSourceOptions {
  readonly dir: string;
  readonly cluster: string;
  readonly store: ResourceStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Names the source in problems; the folder's path unless told otherwise. */
  readonly name?: string;
  readonly precedence?: number;
  /** For objects that name none. */
  readonly defaultNamespace?: string;
}

/** After the last of a burst of events, before files are read. */
const quietMs = 20;
/** How long a steady stream of events can put reading off. */
const longestWaitMs = 100;
/** Everything is looked at again this often, for file systems that lose events. */
const rescanMs = 10_000;
/** Between two looks for a folder that has gone. */
const missingRetryMs = 250;
/** A file that was just emptied is being rewritten, most likely: it gets this long to fill again. */
const refillMs = 100;

export interface FolderSource {
  /** Reads everything now, without waiting for quiet. Resolves when the store has been told. */
  readNow(): Promise<void>;
}

/**
 * Keeps the store up to date with a folder of YAML and JSON files. Resolves when everything that is there has been
 * told; goes on until the scope closes. Throws a `Failure` when there is no such folder. When the folder disappears
 * later, what was read stays in force until it is back.
 */
export async function startFolderSource(options: FolderSourceOptions, scope: Scope): Promise<FolderSource> {
  const dir = resolve(options.dir);
  const { store, name = dir, precedence = 0 } = options;
  const state = new FolderState({ ...options, dir }, store.layer({ name, precedence }), scope);
  await state.start();
  return { readNow: () => state.readNow() };
}

class FolderState {
  readonly #options: FolderSourceOptions;
  readonly #layer: Layer;
  readonly #scope: Scope;
  /** What was last read of each file, to pass over events that change nothing. */
  readonly #known = new Map<string, FileText>();
  readonly #emptiedAt = new Map<string, number>();
  /** Files that events named since they were last read; `everything` when an event named something else. */
  #dirty: Set<string> | "everything" = new Set();
  #watcher: FSWatcher | undefined;
  #timer: Timer | undefined;
  #firstEventAt: number | undefined;
  #reading: Promise<void> | undefined;
  #missing = false;

  constructor(options: FolderSourceOptions, layer: Layer, scope: Scope) {
    this.#options = options;
    this.#layer = layer;
    this.#scope = scope;
  }

  async start(): Promise<void> {
    const { dir } = this.#options;
    try {
      await listFiles(dir, () => {});
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      const hint = code === "ENOENT" ? "create it, or name another folder" : "name a folder that can be read";
      const why = code === "ENOENT" ? "there is no such folder" : code === "ENOTDIR" ? "it is not a folder" : message;
      this.#layer.remove();
      throw new Failure("sources/folder", `cannot read resources from "${dir}": ${why}`, { hint, cause });
    }
    this.#scope.defer(async () => {
      this.#timer?.cancel();
      await this.#watcher?.close();
      await this.#reading;
    });
    await this.#watch();
    this.#dirty = "everything";
    await this.#read();
    void this.#rescan();
  }

  /** Watching begins before reading, so that nothing can change unseen in between. */
  async #watch(): Promise<void> {
    await this.#watcher?.close();
    if (this.#scope.closed) return;
    const { dir, log } = this.#options;
    const watcher = watch(dir, {
      ignoreInitial: true,
      // Events of files that are not read only cost; of folders and links all matter.
      ignored: (path, stats) => stats?.isFile() === true && !isResourceFile(basename(path)),
    });
    this.#watcher = watcher;
    watcher.on("all", (_event, path) => this.#poke(path));
    // How Kubernetes swaps a ConfigMap: a hidden link is renamed, and the files behind it are others at once.
    watcher.on("raw", (_event, path) => this.#poke(path));
    watcher.on("error", (caught) =>
      log.warn({ dir, err: caught }, "watching the folder failed; it is read again at intervals"),
    );
    await new Promise<void>((ready) => watcher.once("ready", () => ready()));
  }

  #poke(path: string | undefined): void {
    if (this.#scope.closed) return;
    const { dir, clock } = this.#options;
    const absolute = path === undefined ? dir : resolve(dir, path);
    if (this.#dirty !== "everything" && this.#known.has(absolute)) this.#dirty.add(absolute);
    else this.#dirty = "everything";
    const now = clock.monotonic();
    this.#firstEventAt ??= now;
    this.#timer?.cancel();
    const wait = Math.min(quietMs, this.#firstEventAt + longestWaitMs - now);
    this.#timer = clock.after(Math.max(0, wait), () => void this.#read());
  }

  async readNow(): Promise<void> {
    this.#timer?.cancel();
    this.#dirty = "everything";
    // A reading that is at its end may have looked for dirt for the last time already.
    while (this.#unread()) await (this.#reading ?? this.#read());
  }

  #unread(): boolean {
    return !this.#scope.closed && (this.#dirty === "everything" || this.#dirty.size > 0);
  }

  /** Reads what is dirty. Only one reading runs; what becomes dirty meanwhile is read after it. */
  async #read(): Promise<void> {
    if (this.#reading !== undefined) return;
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
  }

  async #readAll(): Promise<void> {
    while (this.#unread()) {
      const dirty = this.#dirty;
      this.#dirty = new Set();
      this.#firstEventAt = undefined;
      if (dirty === "everything") await this.#scan();
      else await this.#update([...dirty]);
    }
  }

  async #scan(): Promise<void> {
    const { dir, log } = this.#options;
    const closed: string[] = [];
    let files: string[];
    try {
      files = await listFiles(dir, (path, cause) => {
        closed.push(path);
        log.warn({ path, err: cause }, "folder could not be read; what is known of it stays");
      });
    } catch (cause) {
      this.#lost(cause);
      return;
    }
    if (this.#missing) await this.#found();
    const here = new Set(files);
    const kept = (path: string) => closed.some((folder) => path.startsWith(`${folder}/`));
    const gone = [...this.#known.keys()].filter((path) => !here.has(path) && !kept(path));
    await this.#update([...files, ...gone]);
  }

  #lost(cause: unknown): void {
    if (this.#missing) return;
    this.#missing = true;
    const { dir, log } = this.#options;
    log.error({ dir, err: cause }, "folder of resources has gone; what was read stays in force");
    const message = "the folder cannot be read; what was read stays in force until it is back";
    const violation = { file: dir, line: 1, column: 1, path: "", message, code: "ISM0904", severity: "error" } as const;
    const reading = { resources: [], violations: [violation], wrong: [], complete: false, ignored: 0 };
    this.#layer.apply([{ unit: "", reading }]);
    void (async () => {
      while (this.#missing && (await this.#pause(missingRetryMs))) {
        this.#dirty = "everything";
        await this.#read();
      }
    })();
  }

  async #found(): Promise<void> {
    this.#missing = false;
    this.#layer.apply([{ unit: "", reading: undefined }]);
    this.#options.log.info({ dir: this.#options.dir }, "folder of resources is back");
    // The watches belonged to the folder that is gone.
    await this.#watch();
    this.#dirty = "everything";
  }

  async #update(paths: readonly string[]): Promise<void> {
    const { cluster, defaultNamespace, log } = this.#options;
    const updates: UnitUpdate[] = [];
    for (const path of paths) {
      const text = await readText(path);
      if (this.#isUnchanged(path, text) || this.#isBeingRewritten(path, text)) continue;
      const file = this.#shownName(path);
      const present = text.kind !== "gone";
      const inNamespace = defaultNamespace === undefined ? {} : { defaultNamespace };
      const reading = present ? readingOf(text, { cluster, file, ...inNamespace }) : undefined;
      if (present) this.#known.set(path, text);
      else this.#known.delete(path);
      for (const violation of reading?.violations ?? [])
        log.warn({ file, line: violation.line, code: violation.code }, formatViolation(violation));
      updates.push({ unit: path, reading });
    }
    if (updates.length > 0 && !this.#scope.closed) this.#layer.apply(updates);
  }

  #isUnchanged(path: string, text: FileText): boolean {
    const known = this.#known.get(path);
    if (!known) return text.kind === "gone";
    if (known.kind === "text" && text.kind === "text") return known.text === text.text;
    return known.kind === "unreadable" && text.kind === "unreadable" && known.message === text.message;
  }

  /** Writing in place empties a file first: for that moment it does not mean that its objects are to go. */
  #isBeingRewritten(path: string, text: FileText): boolean {
    const { clock } = this.#options;
    const known = this.#known.get(path);
    const emptied = text.kind === "text" && text.text === "" && known?.kind === "text" && known.text !== "";
    if (!emptied) {
      this.#emptiedAt.delete(path);
      return false;
    }
    const since = this.#emptiedAt.get(path) ?? clock.monotonic();
    this.#emptiedAt.set(path, since);
    if (clock.monotonic() - since >= refillMs) return false;
    void this.#pause(refillMs).then((going) => {
      if (going) this.#poke(path);
    });
    return true;
  }

  /** A file as messages name it: from where the program runs when it is below, else in full. */
  #shownName(path: string): string {
    const near = relative("", path);
    return near.startsWith("..") ? path : near;
  }

  async #rescan(): Promise<void> {
    while (await this.#pause(rescanMs)) {
      this.#dirty = "everything";
      await this.#read();
    }
  }

  /** False when the scope closed meanwhile. */
  async #pause(ms: number): Promise<boolean> {
    try {
      await sleep(this.#options.clock, ms, this.#scope.signal);
      return true;
    } catch {
      return false; // Only the scope's signal ends the wait early.
    }
  }
}
