import type { Readable } from "node:stream";

/** A line longer than this is passed on in pieces. */
const longest = 1024 * 1024;

/** Whole lines of a stream, without their ends; what was begun when the stream ended is a line too. */
export function eachLine(stream: Readable, take: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
    if (rest.length > longest) {
      take(rest);
      rest = "";
    }
  });
  stream.on("close", () => {
    if (rest !== "") take(rest);
    rest = "";
  });
}
