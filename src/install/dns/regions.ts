import { tokensOf } from "./tokens.ts";

// What is ours in a Corefile stands between two comments, by which it is found, renewed and taken out again exactly:
//
//   # isthmus dns begin global
//   …
//   # isthmus dns end global
//
// What stood there before, if it was replaced, is kept in it as comments.

/** A stretch of whole lines of a text. */
export interface Span {
  readonly start: number;
  /** Behind the last line's end. */
  readonly end: number;
}

export interface Region extends Span {
  readonly domain: string;
  /** From 1: where it begins. */
  readonly line: number;
  /** What was replaced, as it stood; undefined when nothing was. */
  readonly replaced: string | undefined;
  /** The text had no line end where this was put. */
  readonly unended: boolean;
}

const beginMark = "# isthmus dns begin ";
const endMark = "# isthmus dns end ";
const replacedMark = "# was|";
const unendedNote = " (the text above ended without a line end)";
/** Behind a line that was added to somebody's block. */
export const addedMark = " # added by isthmus dns";

const note = "# Made by `isthmus dns install`, taken out by `isthmus dns remove`; what is changed here is lost.";

interface Line extends Span {
  readonly text: string;
}

/** The lines that are not within quotes, in which a comment may look like ours and be none. */
function linesOf(text: string): readonly (Line & { readonly number: number })[] {
  const quoted = tokensOf(text).filter(({ start, end }) => text.slice(start, end).includes("\n"));
  const lines: (Line & { readonly number: number })[] = [];
  let number = 0;
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found + 1;
    number++;
    const at = start;
    if (!quoted.some((token) => token.start < at && at < token.end)) {
      lines.push({ start, end, number, text: text.slice(start, found < 0 ? end : found).replace(/\r$/, "") });
    }
    start = end;
  }
  return lines;
}

/** Everything of ours, in order. A beginning without its end is nobody's: it is left alone. */
export function regionsOf(text: string): readonly Region[] {
  const regions: Region[] = [];
  let begun: { readonly line: Line & { readonly number: number }; readonly domain: string } | undefined;
  let replaced: string[] = [];
  for (const line of linesOf(text)) {
    if (line.text.startsWith(beginMark)) {
      begun = { line, domain: line.text.slice(beginMark.length).split(" ")[0]! };
      replaced = [];
    } else if (begun && line.text.startsWith(replacedMark)) {
      replaced.push(text.slice(line.start + replacedMark.length, line.end));
    } else if (begun && line.text === `${endMark}${begun.domain}`) {
      regions.push({
        domain: begun.domain,
        line: begun.line.number,
        start: begun.line.start,
        end: line.end,
        replaced: replaced.length > 0 ? replaced.join("") : undefined,
        unended: begun.line.text.endsWith(unendedNote),
      });
      begun = undefined;
    }
  }
  return regions;
}

export function regionText(wish: {
  readonly domain: string;
  readonly lines: readonly string[];
  readonly replaced: string | undefined;
  readonly unended: boolean;
}): string {
  const { domain, lines, replaced, unended } = wish;
  const was = (replaced ?? "").match(/[^\n]*\n|[^\n]+$/g) ?? [];
  return [
    `${beginMark}${domain}${unended ? unendedNote : ""}`,
    note,
    ...was.map((line) => `${replacedMark}${line.replace(/\n$/, "")}`),
    ...lines,
    `${endMark}${domain}`,
  ]
    .map((line) => `${line}\n`)
    .join("");
}

/** Puts it in place of what is ours of the domain already, else of `instead`, else where `beside` says. */
export function putRegion(
  text: string,
  wish: {
    readonly domain: string;
    readonly lines: readonly string[];
    readonly instead: Span | undefined;
    /** A file whose one block has no braces goes on to the end: what is added must stand before it. */
    readonly beside: "start" | "end";
  },
): string {
  const { domain, lines, instead, beside } = wish;
  const [old] = regionsOf(text).filter((region) => region.domain === domain);
  if (old) return splice(text, old, regionText({ domain, lines, replaced: old.replaced, unended: old.unended }));
  if (instead) {
    const replaced = text.slice(instead.start, instead.end);
    const unended = !replaced.endsWith("\n");
    return splice(
      text,
      instead,
      regionText({ domain, lines, replaced: unended ? `${replaced}\n` : replaced, unended }),
    );
  }
  if (beside === "start") {
    const start = text.startsWith("\ufeff") ? 1 : 0;
    return splice(text, { start, end: start }, regionText({ domain, lines, replaced: undefined, unended: false }));
  }
  const unended = text !== "" && !text.endsWith("\n");
  return `${text}${unended ? "\n" : ""}${regionText({ domain, lines, replaced: undefined, unended })}`;
}

/** Takes out what is ours of these domains (all of them unless told), and puts back what it replaced. */
export function removeRegions(text: string, domains?: readonly string[]): string {
  let rest = text;
  let unended = false;
  for (const region of regionsOf(text).toReversed()) {
    if (domains && !domains.includes(region.domain)) continue;
    unended ||= region.unended && region.end === rest.length;
    rest = splice(rest, region, region.replaced ?? "");
  }
  if (!unended) return rest;
  // The line end before it was ours as well, unless another of ours stands behind it now and must know of it.
  const last = regionsOf(rest).at(-1);
  if (last?.end !== rest.length) return rest.replace(/\n$/, "");
  const at = last.start + beginMark.length + last.domain.length;
  return last.unended ? rest : rest.slice(0, at) + unendedNote + rest.slice(at);
}

/** Takes out the lines that were added to somebody's block. */
export function removeAdded(text: string): string {
  let rest = text;
  for (const line of linesOf(text).toReversed()) if (line.text.endsWith(addedMark)) rest = splice(rest, line, "");
  return rest;
}

function splice(text: string, { start, end }: Span, put: string): string {
  return text.slice(0, start) + put + text.slice(end);
}
