import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";

/** What files have more than when they were last looked at, in whole lines. */
export class NewLines {
  readonly #read = new Map<string, number>();

  /** From here on only what comes is new. */
  skip(file: string): void {
    this.#read.set(file, sizeOf(file));
  }

  from(file: string): readonly string[] {
    const begin = this.#read.get(file) ?? 0;
    const end = sizeOf(file);
    if (end <= begin) return [];
    const descriptor = openSync(file, "r");
    try {
      const bytes = Buffer.alloc(end - begin);
      const count = readSync(descriptor, bytes, 0, bytes.length, begin);
      // A line that is being written is read when it has its end.
      const whole = bytes.subarray(0, count).lastIndexOf(10) + 1;
      this.#read.set(file, begin + whole);
      return bytes.toString("utf8", 0, whole).split("\n").slice(0, -1);
    } finally {
      closeSync(descriptor);
    }
  }
}

function sizeOf(file: string): number {
  if (!existsSync(file)) return 0;
  const descriptor = openSync(file, "r");
  try {
    return fstatSync(descriptor).size;
  } finally {
    closeSync(descriptor);
  }
}
