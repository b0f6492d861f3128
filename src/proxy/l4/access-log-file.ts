import { close, fstatSync, open, write } from "node:fs";
import type { Clock, Logger, Timer } from "../../base/index.ts";
import type { AccessLogConfig } from "../config/access-log.ts";
import type { AccessLog, AccessRecord } from "./access-log.ts";
import { formatter } from "./access-log-format.ts";

/** Bytes of lines that may wait to be written; what comes above is dropped and counted. */
const waitingLimit = 4 * 1024 * 1024;
/** Lines are written together that came within this time. */
const gatherMs = 50;
/** How long a pipe that is full, or a disk, is left alone. */
const retryMs = 250;

const standard: Readonly<Record<string, number>> = { "/dev/stdout": 1, "/dev/stderr": 2 };

/** Lines stand in blocks of this many bytes: as bytes they cost the collector of garbage nothing while they wait. */
const blockBytes = 128 * 1024;

/** What one write puts into a pipe in one piece whoever else writes to it (PIPE_BUF of Linux; pipe(7)). */
const pipeBytes = 4096;

interface Block {
  readonly bytes: Buffer;
  readonly lines: number;
}

/** One file that takes lines: gathered, in order, never waited for. What cannot be written is dropped, counted, and said once. */
export class LineFile {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #shared: boolean;
  /** Full ones, first in first out. */
  #blocks: Block[] = [];
  /** The one that is being filled, up to `#filled` bytes. */
  #current: Buffer | undefined;
  #filled = 0;
  #lines = 0;
  #spare: Buffer | undefined;
  #waiting = 0;
  #dropped = 0;
  #timer: Timer | undefined;
  #writing: Promise<void> | undefined;
  #failing = false;
  #descriptor: number | undefined;
  /** Bytes of one write at the most; more only for a line that is longer. */
  #atOnce = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(path: string, deps: LogDeps) {
    this.#path = path;
    this.#shared = deps.shared ?? false;
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#waiting + line.length > waitingLimit) {
      this.#dropped++;
      return;
    }
    this.#append(line);
    if (this.#writing || this.#stopped) return;
    this.#timer ??= this.#clock.after(gatherMs, () => void this.flush(), { background: true });
  }

  /** Writes what waits. Never rejects. */
  flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#waiting > 0 && !this.#stopped)
        this.#timer ??= this.#clock.after(this.#failing ? retryMs : gatherMs, () => void this.flush(), {
          background: true,
        });
    });
    return this.#writing;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.flush();
    if (this.#waiting > 0) await this.flush();
    const descriptor = this.#descriptor;
    if (descriptor !== undefined && !(this.#path in standard)) close(descriptor, () => {});
  }

  #append(line: string): void {
    // In UTF-8 a unit of a string takes three bytes at most.
    const most = line.length * 3;
    if (most > blockBytes - this.#filled) this.#seal();
    if (most > blockBytes) {
      const bytes = Buffer.from(line, "utf8");
      this.#blocks.push({ bytes, lines: 1 });
      this.#waiting += bytes.length;
      return;
    }
    this.#current ??= this.#spare ?? Buffer.allocUnsafeSlow(blockBytes);
    this.#spare = undefined;
    const size = this.#current.write(line, this.#filled, "utf8");
    this.#filled += size;
    this.#waiting += size;
    this.#lines++;
  }

  /** Files keep the writes of several processes apart by themselves; pipes only small ones. */
  async #open(): Promise<number> {
    const descriptor = standard[this.#path] ?? (await openForAppend(this.#path));
    if (this.#shared && !fstatSync(descriptor).isFile()) this.#atOnce = pipeBytes;
    return descriptor;
  }

  #seal(): void {
    if (this.#current && this.#filled > 0) {
      this.#blocks.push({ bytes: this.#current.subarray(0, this.#filled), lines: this.#lines });
      this.#current = undefined;
    }
    this.#filled = 0;
    this.#lines = 0;
  }

  /** Writes what waited when it began; what comes meanwhile is the next one's. */
  async #drain(): Promise<void> {
    this.#seal();
    const blocks = this.#blocks;
    this.#blocks = [];
    while (blocks.length > 0) {
      const { bytes, lines } = blocks[0]!;
      let rest = bytes;
      try {
        this.#descriptor ??= await this.#open();
        while (rest.length > 0) {
          const piece = rest.length <= this.#atOnce ? rest : wholeLines(rest, this.#atOnce);
          const written = await writeSome(this.#descriptor, piece);
          rest = rest.subarray(written);
          this.#waiting -= written;
        }
        blocks.shift();
        if (bytes.buffer.byteLength === blockBytes) this.#spare = Buffer.from(bytes.buffer);
      } catch (caught) {
        const { code } = caught as NodeJS.ErrnoException;
        if (code === "EAGAIN") {
          // The reader of a pipe is slow: the part that did not fit waits.
          this.#blocks = [{ bytes: rest, lines }, ...blocks.slice(1), ...this.#blocks];
          this.#failing = true;
          return;
        }
        if (!this.#failing)
          this.#log.error({ path: this.#path, err: caught }, "access log cannot be written; lines are dropped");
        this.#failing = true;
        this.#waiting -= rest.length;
        for (const later of blocks.splice(1)) {
          this.#waiting -= later.bytes.length;
          this.#dropped += later.lines;
        }
        this.#dropped += lines;
        return;
      }
      if (this.#failing) this.#log.info({ path: this.#path, dropped: this.#dropped }, "access log written again");
      this.#failing = false;
    }
  }
}

/** The lines that fit into so many bytes, or the first one alone where even that does not. */
export function wholeLines(bytes: Buffer, most: number): Buffer {
  const last = bytes.lastIndexOf(10, most - 1);
  const end = last >= 0 ? last : bytes.indexOf(10, most);
  return end < 0 ? bytes : bytes.subarray(0, end + 1);
}

const openForAppend = (path: string) =>
  new Promise<number>((resolve, reject) =>
    open(path, "a", 0o644, (error, fd) => (error ? reject(error) : resolve(fd))),
  );

const writeSome = (descriptor: number, bytes: Buffer) =>
  new Promise<number>((resolve, reject) =>
    write(descriptor, bytes, (error, written) => (error ? reject(error) : resolve(written))),
  );

export interface LogDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether other processes write to the same files. */
  readonly shared?: boolean;
}

/** The files that access logs go to, one per path however many listeners name it. */
export class AccessLogs {
  readonly #files = new Map<string, LineFile>();
  readonly #made = new WeakMap<readonly AccessLogConfig[], AccessLog>();
  readonly #deps: LogDeps;

  constructor(deps: LogDeps) {
    this.#deps = deps;
  }

  /** Undefined for an empty list: nothing is formatted then. */
  for(configs: readonly AccessLogConfig[]): AccessLog | undefined {
    if (configs.length === 0) return undefined;
    let log = this.#made.get(configs);
    if (!log) {
      const writers = configs.map((config) => this.#writer(config));
      log = {
        write: (record) => {
          for (const writer of writers) writer(record);
        },
      };
      this.#made.set(configs, log);
    }
    return log;
  }

  get dropped(): number {
    return [...this.#files.values()].reduce((sum, { dropped }) => sum + dropped, 0);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.stop()));
  }

  #writer(config: AccessLogConfig): (record: AccessRecord) => void {
    let file = this.#files.get(config.path);
    if (!file) {
      file = new LineFile(config.path, this.#deps);
      this.#files.set(config.path, file);
    }
    const target = file;
    const format = formatter(config.format);
    return (record) => {
      if (config.onlyFlags && !record.flags.some((flag) => config.onlyFlags!.has(flag))) return;
      if (config.onlyStatus && !satisfies(record.responseCode ?? 0, config.onlyStatus)) return;
      target.write(format(record));
    };
  }
}

function satisfies(status: number, { op, value }: NonNullable<AccessLogConfig["onlyStatus"]>): boolean {
  return op === "=" ? status === value : op === "≥" ? status >= value : status <= value;
}
