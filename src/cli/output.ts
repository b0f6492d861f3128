import { createColors } from "picocolors";
import { explain, Failure } from "../base/index.ts";

/** What a command's exit code says. Usage errors share sysexits' EX_USAGE with the rest of the field. */
export const exitCodes = { good: 0, wrong: 1, failed: 2, usage: 64 } as const;

export function printFailure(caught: unknown): void {
  // Colours are for a person at a terminal: a file or another program gets the plain text, whatever the environment says.
  const colors = createColors(process.stderr.isTTY === true);
  process.stderr.write(`${colors.red("isthmus:")} ${told(caught)}\n`);
  if (process.env["ISTHMUS_STACK"] && caught instanceof Error) process.stderr.write(`${caught.stack}\n`);
}

/** What, what to try, which code; behind a list of things each on a line of its own. */
function told(caught: unknown): string {
  const { message, hint, code } = Failure.from(caught);
  if (!message.includes("\n")) return explain(caught);
  return [message, ...(hint === undefined ? [] : [`[${hint}]`]), `(${code})`].join("\n");
}

export function printLine(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** Rows under a header, columns padded to their widest cell and two spaces apart. */
export function table(header: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]) =>
    widths
      .map((width, column) => (cells[column] ?? "").padEnd(width))
      .join("  ")
      .trimEnd();
  return [line(header), ...rows.map(line)].join("\n");
}
