import type { Ip } from "../../values/index.ts";
import { type Conflict, conflictWith, wholeLines } from "./conflicts.ts";
import { type Corefile, type Importer, type Problem, parseCorefile, type ServerBlock } from "./corefile.ts";
import { refusedDirectives } from "./directives.ts";
import { blockLines, type CorednsForm } from "./forms.ts";
import { completeMain } from "./main-block.ts";
import { putRegion, regionsOf, removeAdded, removeRegions } from "./regions.ts";
import type { Version } from "./version.ts";
import { blocksOf, mainBlock, overlaps, portOf } from "./zones.ts";

/** What a Corefile is to say of the mesh. */
export interface CorefileWish {
  readonly form: CorednsForm;
  /** Undefined where only the form is known: then nothing is judged by version. */
  readonly version: Version | undefined;
  readonly domains: readonly string[];
  readonly ips: readonly Ip[];
  /** The program's own port where a key names none. */
  readonly defaultPort: number;
  /** Take the place of a zone that somebody made by hand. */
  readonly replace: boolean;
  /** Add the lines of the form that the main block lacks. */
  readonly complete: boolean;
}

/** All that a CoreDNS reads: its Corefile, and the files that this imports. */
export interface Config {
  readonly main: string;
  readonly importer: Importer;
}

export interface CorefileEdit {
  /** Of the file that was to be edited. */
  readonly text: string;
  readonly conflicts: readonly Conflict[];
  /** What the main block of the form has and this one not, and the other way round. */
  readonly notes: readonly string[];
}

export type Edited = ({ readonly ok: true } & CorefileEdit) | { readonly ok: false; readonly problem: Problem };

/**
 * A file of a configuration with the wish in it: its main one, or an imported one that is all ours. The rest of it is
 * what it was, byte for byte. What is in the way is a value, and then nothing is written of that domain.
 */
export function editCorefile(config: Config, wish: CorefileWish, target = ""): Edited {
  const parsed = parseCorefile(config.main, config.importer);
  if (!parsed.ok) return parsed;
  const { corefile } = parsed;
  const main = mainBlock(corefile);
  const port = portOf(main, wish.defaultPort);
  const before = target === "" ? config.main : textOf(corefile, config, target);
  const bind = wordsOf(main, "bind");
  const indent = indentOf(config.main, main);
  const conflicts: Conflict[] = [];
  const notes: string[] = [];
  let text = before;
  for (const domain of wish.domains) {
    const foreign = blocksOf(corefile, domain, port, wish.defaultPort).filter(
      (block) => !isOurs(block, corefile, config),
    );
    const found = foreign.map((block) =>
      conflictWith(block, { domain, ips: wish.ips, target, text: textOf(corefile, config, block.keys[0]!.file) }),
    );
    const ours = regionsOf(text).some((region) => region.domain === domain);
    const [only] = found;
    const replaceable = wish.replace && found.length === 1 && only!.stuck === undefined && !only!.same && !ours;
    if (found.length > 0 && !replaceable) {
      conflicts.push(...found);
      continue;
    }
    if (replaceable) notes.push(`replaced, until remove puts it back: ${only!.text} (line ${only!.line})`);
    // Earlier domains moved what comes after them: the block is looked for in the text as it is now.
    const instead = replaceable ? wholeLines(text, { domain, port, defaultPort: wish.defaultPort }) : undefined;
    const lines = blockLines({ ...wish, domain, port, bind, indent });
    text = putRegion(text, { domain, lines, instead, beside: target === "" && endless(corefile) ? "start" : "end" });
  }
  if (target !== "") return { ok: true, text, conflicts, notes };
  const completed = completeMain(text, { ...wish, indent, importer: config.importer });
  return { ok: true, text: completed.text, conflicts, notes: [...notes, ...completed.notes] };
}

/** A file of the configuration with all of these domains that is ours taken out; all that is ours unless told. */
export function cleanCorefile(text: string, domains?: readonly string[]): string {
  const rest = removeRegions(text, domains);
  return regionsOf(rest).length === 0 ? removeAdded(rest) : rest;
}

/**
 * Why a CoreDNS would not load this: then it goes on with what it has, or does not start. A problem that the text before
 * had as well is one all the same: what is written would never be seen.
 */
export function refusals(
  config: Config,
  known: { readonly version: Version | undefined; readonly defaultPort: number },
): readonly Problem[] {
  const parsed = parseCorefile(config.main, config.importer);
  if (!parsed.ok) return [parsed.problem];
  const byVersion = known.version ? refusedDirectives(parsed.corefile, known.version) : [];
  return [...byVersion, ...overlaps(parsed.corefile, known.defaultPort)];
}

/** Whether two texts are the same to CoreDNS, but for what is ours. A check on ourselves, before anything is written. */
export function sameButOurs(before: Config, after: Config): boolean {
  const [one, other] = [before, after].map((config) => {
    const clean = { ...config, main: cleanCorefile(config.main) };
    const parsed = parseCorefile(clean.main, clean.importer);
    return parsed.ok ? JSON.stringify(parsed.corefile.blocks.map(wordsOfBlock)) : undefined;
  });
  return one !== undefined && one === other;
}

function wordsOfBlock({ keys, directives }: ServerBlock): unknown {
  const text = ({ text }: { readonly text: string }) => text;
  return [keys.map(text), directives.map(({ name, rest }) => [name.text, ...rest.map(text)])];
}

function isOurs(block: ServerBlock, corefile: Corefile, config: Config): boolean {
  const { file, start } = block.keys[0]!;
  return regionsOf(textOf(corefile, config, file)).some((region) => region.start <= start && start < region.end);
}

/** The text of an imported file, empty where there is none yet. */
function textOf({ imports }: Corefile, { main, importer }: Config, file: string): string {
  if (file === "") return main;
  const files = imports.flatMap(({ pattern }) => importer(pattern.text));
  return files.find(({ path }) => path === file)?.text ?? "";
}

/** A block without braces goes on to the end of the file: whatever is written there would be of it. */
function endless({ blocks }: Corefile): boolean {
  return blocks.some(({ close }) => close === undefined);
}

/** A directive of a block, word for word, where it is on one line. */
function wordsOf(block: ServerBlock | undefined, name: string): string | undefined {
  const found = block?.directives.find((directive) => directive.name.text === name);
  const words = found && [found.name, ...found.rest].map(({ text }) => text);
  return words?.every((word) => /^[^\s"#]+$/.test(word)) ? words.join(" ") : undefined;
}

function indentOf(text: string, block: ServerBlock | undefined): string {
  const first = block?.directives.find(({ name }) => name.file === "")?.name;
  if (!first) return "    ";
  const indent = text.slice(text.lastIndexOf("\n", first.start - 1) + 1, first.start);
  return /^[ \t]+$/.test(indent) ? indent : "    ";
}
