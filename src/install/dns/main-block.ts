import { type Importer, parseCorefile, type ServerBlock } from "./corefile.ts";
import { hasDirective } from "./directives.ts";
import { type CorednsForm, mainLines } from "./forms.ts";
import { addedMark } from "./regions.ts";
import type { Version } from "./version.ts";
import { mainBlock } from "./zones.ts";

/**
 * The main block is its owner's: the mesh's names need nothing of it. What it lacks of its form is told, and added only
 * when that is asked for, each line marked so that it can be taken out again.
 */
export function completeMain(
  text: string,
  wish: {
    readonly form: CorednsForm;
    readonly version: Version | undefined;
    readonly complete: boolean;
    readonly indent: string;
    readonly importer: Importer;
  },
): { readonly text: string; readonly notes: readonly string[] } {
  const parsed = parseCorefile(text, wish.importer);
  const main = parsed.ok ? mainBlock(parsed.corefile) : undefined;
  if (!main) return { text, notes: ['no block answers for ".", and none was added'] };
  const notes: string[] = [];
  let edited = text;
  for (const { name, line } of mainLines(wish.form)) {
    // Whichever of the two it forwards with, it forwards.
    const names = name === "ready" ? ["ready"] : ["forward", "proxy"];
    const present = main.directives.find((directive) => names.includes(directive.name.text));
    if (present) {
      if (name !== "ready") notes.push(`left as it is: ${shown(present)} (line ${present.name.line})`);
      continue;
    }
    if (wish.version && hasDirective(name, wish.version) === false) continue;
    const added = wish.complete ? addLine(edited, `${wish.indent}${line}${addedMark}`, wish.importer) : undefined;
    edited = added ?? edited;
    if (added !== undefined) notes.push(`added to the main block: ${line}`);
    else notes.push(`the main block has no "${name}", which the mesh's names do not need; --complete adds "${line}"`);
  }
  return { text: edited, notes };
}

function shown({ name, rest }: ServerBlock["directives"][number]): string {
  const brace = rest.findIndex(({ text }) => text === "{");
  return [name, ...rest.slice(0, brace < 0 ? rest.length : brace)].map(({ text }) => text).join(" ");
}

/** As last line of the main block; undefined when its closing brace has no line of its own in this text. */
function addLine(text: string, line: string, importer: Importer): string | undefined {
  const parsed = parseCorefile(text, importer);
  const close = parsed.ok ? mainBlock(parsed.corefile)?.close : undefined;
  if (close?.file !== "") return undefined;
  const start = text.lastIndexOf("\n", close.start - 1) + 1;
  if (text.slice(start, close.start).trim() !== "") return undefined;
  return `${text.slice(0, start)}${line}\n${text.slice(start)}`;
}
