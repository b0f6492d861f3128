/** A word of a Corefile, as CoreDNS's own reader cuts it. */
export interface Token {
  /** Without its quotes. */
  readonly text: string;
  /** From 1. */
  readonly line: number;
  /** Empty for the text itself; the path of an imported file. */
  readonly file: string;
  /** Where it stands in that text, quotes included; `end` is behind it. */
  readonly start: number;
  readonly end: number;
}

/** What Go takes for a space. A carriage return does not end a word: it is passed over. */
const space = /[\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/**
 * The words of a text. They end at a space; one that begins with a quote ends at the next quote, may hold line ends, and
 * has `\"` for a quote. A `#` that is not in quotes hides the rest of its line, in the middle of a word too.
 */
export function tokensOf(text: string, file = ""): Token[] {
  const tokens: Token[] = [];
  let at = text.startsWith("\ufeff") ? 1 : 0;
  let line = 1;
  let value = "";
  let from = -1;
  let begun = 1;
  let end = 0;
  const finish = () => {
    if (from >= 0) tokens.push({ text: value, line: begun, file, start: from, end });
    value = "";
    from = -1;
  };
  while (at < text.length) {
    const char = text[at]!;
    if (space.test(char)) {
      if (char === "\n") line++;
      at++;
      if (char !== "\r") finish();
    } else if (char === "#") {
      const lineEnd = text.indexOf("\n", at);
      at = lineEnd < 0 ? text.length : lineEnd;
    } else if (char === '"' && from < 0) {
      const quoted = readQuoted(text, at);
      // Quotes that never end are a word all the same, if there is anything in them.
      if (quoted.closed || quoted.value !== "") {
        tokens.push({ text: quoted.value, line, file, start: at, end: quoted.end });
      }
      line += quoted.lines;
      at = quoted.end;
    } else {
      if (from < 0) {
        from = at;
        begun = line;
      }
      value += char;
      at++;
      end = at;
    }
  }
  finish();
  return tokens;
}

function readQuoted(text: string, start: number) {
  let value = "";
  let lines = 0;
  let escaped = false;
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at]!;
    if (!escaped && char === "\\") {
      escaped = true;
      continue;
    }
    if (!escaped && char === '"') return { value, lines, end: at + 1, closed: true };
    if (char === "\n") lines++;
    // Quotes alone can be escaped: before anything else the backslash is one.
    value += escaped && char !== '"' ? `\\${char}` : char;
    escaped = false;
  }
  return { value, lines, end: text.length, closed: false };
}
