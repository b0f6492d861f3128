import {
  Composer,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  Parser,
  type Scalar,
} from "yaml";
import type { Code } from "./codes.ts";
import type { Path } from "./schema.ts";

/** What a text may hold. The defaults are far above what people write and far below what hurts. */
export interface YamlLimits {
  /** In UTF-16 units. */
  readonly textLength: number;
  readonly documents: number;
  /** Mappings and lists inside one another. */
  readonly depth: number;
  /** Values that come from aliases, in one document. */
  readonly aliasedValues: number;
}

export const yamlLimits: YamlLimits = {
  textLength: 16 * 1024 * 1024,
  documents: 50_000,
  depth: 100,
  aliasedValues: 10_000,
};

export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface YamlProblem extends Place {
  readonly path: Path;
  readonly code: Code;
  readonly message: string;
}

/** Where something is written: the key itself, or what stands behind it. A path that is not there gives its nearest parent. */
export type Locate = (path: Path, at: "key" | "value") => Place;

export interface YamlDocument {
  /** Plain objects, arrays, text, finite numbers, booleans, null. Undefined when a problem kept it from being read. */
  readonly value: unknown;
  readonly problems: readonly YamlProblem[];
  readonly locate: Locate;
}

type Node = Document["contents"];

/**
 * The documents in a text, one after the other; empty ones are left out. Whatever the text holds, this ends, throws
 * nothing, and touches no prototype. JSON is YAML too.
 */
export function* documents(text: string, limits: YamlLimits = yamlLimits): Generator<YamlDocument> {
  if (text.length > limits.textLength) {
    const size = `${text.length} characters`;
    yield broken(
      1,
      1,
      "ISM0102",
      `is ${size} long, and at most ${limits.textLength} are read; split it into several files`,
    );
    return;
  }
  // A byte order mark is allowed at the very start only.
  const body = text.startsWith("\uFEFF") ? text.slice(1) : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
  const control = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ufeff\ufffe\uffff]/.exec(body);
  if (control) {
    const code = control[0].charCodeAt(0).toString(16).padStart(4, "0").toUpperCase();
    const before = body.slice(0, control.index);
    const line = before.split("\n").length;
    const column = control.index - before.lastIndexOf("\n");
    yield broken(line, column, "ISM0101", `holds the character U+${code}, which YAML does not allow; remove it`);
    return;
  }
  let read = 0;
  for (const chunk of chunks(body)) {
    for (const document of readChunk(chunk.text, chunk.firstLine, limits)) {
      if (document.value === null && document.problems.length === 0) continue;
      if (++read > limits.documents) {
        const place = document.locate([], "value");
        yield broken(
          place.line,
          place.column,
          "ISM0109",
          `is document ${read}, and at most ${limits.documents} are read; split the file`,
        );
        return;
      }
      yield document;
    }
  }
}

function broken(line: number, column: number, code: Code, message: string): YamlDocument {
  return { value: undefined, problems: [{ line, column, path: [], code, message }], locate: () => ({ line, column }) };
}

/**
 * The text cut where a document begins. YAML 1.2 §9.1.2: a line that starts with `---` and a space ends whatever was
 * open, quoted or not, so cutting needs no parsing, and a mistake in one document leaves the others readable.
 */
function* chunks(text: string): Generator<{ readonly text: string; readonly firstLine: number }> {
  const marker = /^---(?=[ \t\r\n]|$)/gm;
  let start = 0;
  let firstLine = 1;
  for (;;) {
    const found = marker.exec(text);
    const end = found ? found.index : text.length;
    const piece = text.slice(start, end);
    const lines = piece.split("\n");
    const content = lines.some(
      (line) => line.trim() !== "" && !line.trimStart().startsWith("#") && !line.startsWith("%"),
    );
    const directives = lines.some((line) => line.startsWith("%"));
    // Directives belong to the document that their `---` begins.
    const belongsToNext = found !== null && !content && directives;
    if (content) yield { text: piece, firstLine };
    if (!belongsToNext) {
      start = end;
      firstLine += lines.length - 1;
    }
    if (!found) return;
  }
}

class TooDeep extends Error {
  readonly offset: number;
  constructor(offset: number) {
    super();
    this.offset = offset;
  }
}

function readChunk(text: string, firstLine: number, limits: YamlLimits): YamlDocument[] {
  const counter = new LineCounter();
  const placeOf = (offset: number): Place => {
    const { line, col } = counter.linePos(offset);
    return line === 0 ? { line: firstLine, column: 1 } : { line: firstLine + line - 1, column: col };
  };
  // Keys are compared below in linear time; the library's own check is quadratic.
  const composer = new Composer({ uniqueKeys: false, version: "1.2", logLevel: "silent", strict: true });
  const read: Document[] = [];
  try {
    for (const document of composer.compose(tokens(text, counter, limits.depth), false, text.length))
      read.push(document);
  } catch (caught) {
    // The parser below has no limit of its own and throws plain errors for some texts that are no YAML.
    const place = placeOf(caught instanceof TooDeep ? caught.offset : 0);
    if (caught instanceof TooDeep)
      return [broken(place.line, place.column, "ISM0103", `nests deeper than ${limits.depth} levels`)];
    const reason = caught instanceof Error ? caught.message : String(caught);
    return [broken(place.line, place.column, "ISM0101", `cannot be read: ${reason}`)];
  }
  return read.map((document) => readDocument(document, placeOf, limits));
}

/** The syntax tokens of a text, watching how deep they nest before anything recurses over them. */
function* tokens(text: string, counter: LineCounter, depth: number) {
  const parser = new Parser(counter.addNewLine);
  counter.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > depth + 3) throw new TooDeep(parser.offset);
  }
  yield* parser.end();
}

function readDocument(document: Document, placeOf: (offset: number) => Place, limits: YamlLimits): YamlDocument {
  const problems: YamlProblem[] = [];
  const complain = (offset: number, path: Path, code: Code, message: string) => {
    problems.push({ ...placeOf(offset), path, code, message });
  };
  // After the first few, one mistake only repeats itself.
  for (const error of document.errors.slice(0, 20)) {
    const [what] = error.message.split("\n");
    complain(error.pos[0], [], error.code === "TAG_RESOLVE_FAILED" ? "ISM0107" : "ISM0101", lowerFirst(what ?? ""));
  }
  for (const warning of document.warnings.slice(0, 20)) {
    if (warning.code === "TAG_RESOLVE_FAILED")
      complain(warning.pos[0], [], "ISM0107", `${lowerFirst(warning.message)}; only YAML's plain types are read`);
  }
  if (problems.length > 0) return { value: undefined, problems, locate: () => placeOf(document.range?.[0] ?? 0) };
  const plain = toPlain(document.contents, limits, complain);
  const locate: Locate = (path, at) => placeOf(offsetOf(document.contents, path, at, plain.targets));
  return { value: problems.length > 0 ? undefined : plain.value, problems, locate };
}

function lowerFirst(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Keys that would set or shadow what every object inherits. */
const forbiddenKeys: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

type Complain = (offset: number, path: Path, code: Code, message: string) => void;
type Targets = ReadonlyMap<unknown, Node>;

/** A tree of nodes to plain values. Aliases are followed, within the limit; what each one stood for is kept for `locate`. */
function toPlain(root: Node, limits: YamlLimits, complain: Complain): { value: unknown; targets: Targets } {
  const anchors = new Map<string, Node>();
  const targets = new Map<unknown, Node>();
  const open = new Set<unknown>();
  let aliased = 0;
  let insideAlias = 0;

  function visit(node: unknown, path: Path): unknown {
    if (insideAlias > 0 && ++aliased > limits.aliasedValues) {
      if (aliased === limits.aliasedValues + 1)
        complain(offsetAt(node), path, "ISM0104", `aliases expand to more than ${limits.aliasedValues} values`);
      return null;
    }
    if (isAlias(node)) {
      const target = anchors.get(node.source);
      if (target === undefined || open.has(target)) {
        complain(offsetAt(node), path, "ISM0104", `alias "*${node.source}" names nothing that is complete above it`);
        return null;
      }
      targets.set(node, target);
      insideAlias++;
      const value = visit(target, path);
      insideAlias--;
      return value;
    }
    if (node === null || node === undefined) return null;
    const anchor = (node as { anchor?: string }).anchor;
    if (anchor !== undefined) anchors.set(anchor, node as Node);
    if (isScalar(node)) return scalar(node, path);
    open.add(node);
    const value = isSeq(node)
      ? node.items.map((item, index) => visit(item, [...path, index]))
      : isMap(node)
        ? mapping(node, path)
        : null;
    open.delete(node);
    return value;
  }

  function scalar(node: Scalar, path: Path): unknown {
    const value = node.value;
    if (typeof value === "number" && !Number.isFinite(value)) {
      complain(offsetAt(node), path, "ISM0108", `"${node.source ?? value}" is not a finite number`);
      return null;
    }
    return typeof value === "bigint" ? Number(value) : value;
  }

  function mapping(node: { items: readonly unknown[] }, path: Path): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const merged: unknown[] = [];
    for (const { key, value } of node.items as ReadonlyArray<{ key: unknown; value: unknown }>) {
      const name = keyText(key);
      if (name === undefined) {
        complain(offsetAt(key ?? value), path, "ISM0101", "a key must be text");
      } else if (forbiddenKeys.has(name)) {
        complain(offsetAt(key), [...path, name], "ISM0106", `the key "${name}" is not allowed`);
      } else if (name === "<<" && isScalar(key) && key.type === "PLAIN") {
        merged.push(visit(value, path));
      } else if (Object.hasOwn(result, name)) {
        complain(
          offsetAt(key),
          [...path, name],
          "ISM0105",
          `the key "${name}" stands here a second time; keep one of them`,
        );
      } else {
        result[name] = visit(value, [...path, name]);
      }
    }
    // Merge keys: what is written here wins over what is merged in, the first merged over later ones.
    for (const source of merged.flat()) {
      if (typeof source !== "object" || source === null) continue;
      for (const [name, value] of Object.entries(source)) if (!Object.hasOwn(result, name)) result[name] = value;
    }
    return result;
  }

  return { value: visit(root, []), targets };
}

function keyText(key: unknown): string | undefined {
  if (key === null || !isScalar(key)) return undefined;
  const { value } = key;
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return key.source ?? String(value);
  return undefined;
}

function offsetAt(node: unknown): number {
  return (node as { range?: readonly number[] } | null)?.range?.[0] ?? 0;
}

function offsetOf(root: Node, path: Path, at: "key" | "value", targets: Targets): number {
  let node: unknown = root;
  let offset = offsetAt(root);
  for (const [index, part] of path.entries()) {
    const found: { key: unknown; value: unknown } | undefined = child(node, part, targets);
    if (!found) return offset;
    const last = index === path.length - 1;
    const shown = (last && at === "key") || found.value === null ? found.key : found.value;
    offset = offsetAt(shown ?? found.value);
    node = found.value;
  }
  return offset;
}

function child(node: unknown, part: string | number, targets: Targets): { key: unknown; value: unknown } | undefined {
  while (isAlias(node)) node = targets.get(node);
  if (isSeq(node))
    return typeof part === "number" && part < node.items.length ? { key: null, value: node.items[part] } : undefined;
  if (!isMap(node)) return undefined;
  const items = node.items as ReadonlyArray<{ key: unknown; value: unknown }>;
  const pair = items.find(({ key }) => keyText(key) === String(part));
  if (pair) return pair;
  for (const { key, value } of items) {
    if (keyText(key) !== "<<") continue;
    for (const source of isSeq(value) ? value.items : [value]) {
      const found = child(source, part, targets);
      if (found) return found;
    }
  }
  return undefined;
}
