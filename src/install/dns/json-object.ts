/** One member of a JSON object, by where it stands in the text. */
export interface Member {
  readonly key: string;
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
}

export interface JsonObject {
  readonly members: readonly Member[];
  readonly open: number;
  readonly close: number;
}

/** The members of an object's text, which must be JSON already. */
export function membersOf(text: string): JsonObject {
  const open = text.indexOf("{");
  const members: Member[] = [];
  let at = skipSpace(text, open + 1);
  while (text[at] !== "}") {
    const start = at;
    const keyEnd = skipValue(text, start);
    const valueStart = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = skipValue(text, valueStart);
    members.push({ key: JSON.parse(text.slice(start, keyEnd)), start, valueStart, end });
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { members, open, close: at };
}

/** Sets one member and leaves the rest of the text as it is. A new one stands last, as the others stand. */
export function setMember(text: string, key: string, value: string): string {
  const { members, open, close } = membersOf(text);
  const old = members.filter((member) => member.key === key).at(-1);
  if (old) return text.slice(0, old.valueStart) + value + text.slice(old.end);
  const member = `${JSON.stringify(key)}: ${value}`;
  const last = members.at(-1);
  if (!last) return `${text.slice(0, open + 1)}${member}${text.slice(close)}`;
  const before = text.slice(members.at(-2)?.end ?? open, last.start);
  const indent = /\n[ \t]*$/.exec(before)?.[0] ?? " ";
  return `${text.slice(0, last.end)},${indent}${member}${text.slice(last.end)}`;
}

/** Takes one member out, with its comma. */
export function removeMember(text: string, key: string): string {
  const { members, open, close } = membersOf(text);
  const at = members.findIndex((member) => member.key === key);
  if (at < 0) return text;
  const [before, own, after] = [members[at - 1], members[at]!, members[at + 1]];
  const rest = before
    ? text.slice(0, before.end) + text.slice(own.end)
    : after
      ? text.slice(0, own.start) + text.slice(after.start)
      : text.slice(0, open + 1) + text.slice(close);
  return removeMember(rest, key);
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (/\s/.test(text[at] ?? "")) at++;
  return at;
}

/** Behind the value that begins here. */
function skipValue(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') {
      at++;
      while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    } else if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    else if (depth > 0 || !/[\s,:]/.test(char)) {
      // A number or a word: it ends before what cannot be of it.
      if (depth > 0 || !/[\s,\]}:]|^$/.test(text[at + 1] ?? "")) continue;
    } else continue;
    if (depth === 0) return at + 1;
  }
  return text.length;
}
