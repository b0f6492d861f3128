/**
 * Labels or annotations as the downward API writes them: a line each, `key="value"`, the value quoted as a string of Go.
 * What is no such line is said in words.
 */
export function parseDownwardMap(text: string): Readonly<Record<string, string>> | string {
  const entries: [string, string][] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const at = line.indexOf("=");
    const value = at < 1 ? undefined : unquote(line.slice(at + 1).trim());
    if (value === undefined) return `line ${index + 1} is not KEY="VALUE"`;
    entries.push([line.slice(0, at), value]);
  }
  return Object.fromEntries(entries);
}

const simple: Readonly<Record<string, string>> = { a: "\u0007", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

/** Go's `strconv.Quote`, undone. */
function unquote(quoted: string): string | undefined {
  const [, body] = /^"((?:[^"\\]|\\.)*)"$/s.exec(quoted) ?? [];
  if (body === undefined) return undefined;
  return body.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/gs,
    (_all, byte?: string, short?: string, long?: string, letter?: string) => {
      const code = byte ?? short ?? long;
      if (code !== undefined) return String.fromCodePoint(Math.min(Number.parseInt(code, 16), 0x10ffff));
      return simple[letter!] ?? letter!;
    },
  );
}
