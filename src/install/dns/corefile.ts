import { type Token, tokensOf } from "./tokens.ts";

// A Corefile as CoreDNS reads it (the rules are those of its parser, github.com/coredns/caddy), with the place of every
// word kept, so that an edit can leave all else as it is.

export interface Directive {
  readonly name: Token;
  /** All that follows, braces included. */
  readonly rest: readonly Token[];
}

export interface ServerBlock {
  readonly keys: readonly Token[];
  /** Undefined for the one block of a file that is written without braces, which goes on to the end. */
  readonly open: Token | undefined;
  readonly close: Token | undefined;
  readonly directives: readonly Directive[];
}

export interface Import {
  readonly pattern: Token;
  /** Between blocks: what is imported there are whole blocks. */
  readonly top: boolean;
}

export interface Corefile {
  readonly blocks: readonly ServerBlock[];
  /** Of files; snippets are put in their places. */
  readonly imports: readonly Import[];
}

export interface Problem {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

export type Parsed =
  | { readonly ok: true; readonly corefile: Corefile }
  | { readonly ok: false; readonly problem: Problem };

/** An imported file. */
export interface ImportedFile {
  readonly path: string;
  readonly text: string;
}

/** The files that a pattern means, by name; none when nobody knows. */
export type Importer = (pattern: string) => readonly ImportedFile[];

const importNothing: Importer = () => [];

export function parseCorefile(text: string, importer: Importer = importNothing): Parsed {
  try {
    return { ok: true, corefile: new Parser(tokensOf(text), importer).all() };
  } catch (caught) {
    if (caught instanceof SyntaxProblem) return { ok: false, problem: caught.problem };
    throw caught;
  }
}

class SyntaxProblem extends Error {
  readonly problem: Problem;
  constructor(token: Token | undefined, message: string) {
    super(message);
    this.problem = { file: token?.file ?? "", line: token?.line ?? 1, message };
  }
}

/** As deep as imports may go: a snippet that imports itself would never end. */
const mostImports = 1_000;

class Parser {
  readonly #importer: Importer;
  readonly #snippets = new Map<string, readonly Token[]>();
  readonly #imports: Import[] = [];
  #tokens: Token[];
  #at = -1;
  #imported = 0;

  constructor(tokens: Token[], importer: Importer) {
    this.#tokens = tokens;
    this.#importer = importer;
  }

  all(): Corefile {
    const blocks: ServerBlock[] = [];
    while (this.#next()) {
      const block = this.#one();
      if (block && block.keys.length > 0) blocks.push(block);
    }
    return { blocks, imports: this.#imports };
  }

  get #token(): Token | undefined {
    return this.#tokens[this.#at];
  }

  #next(): boolean {
    if (this.#at >= this.#tokens.length - 1) return false;
    this.#at++;
    return true;
  }

  /** Whether this word begins a line: the one before may itself go over several. */
  #newLine(): boolean {
    const [before, now] = [this.#tokens[this.#at - 1], this.#tokens[this.#at]];
    if (!before) return true;
    return now !== undefined && (before.file !== now.file || lastLine(before) < now.line);
  }

  #fail(message: string): never {
    throw new SyntaxProblem(this.#token ?? this.#tokens.at(-1), message);
  }

  #one(): ServerBlock | undefined {
    const keys = this.#keys();
    if (keys.ended) return { keys: keys.found, open: undefined, close: undefined, directives: [] };
    const [only] = keys.found;
    if (keys.found.length === 1 && only!.text.startsWith("(") && only!.text.endsWith(")")) {
      this.#snippet(only!.text.slice(1, -1));
      return undefined;
    }
    const open = this.#token?.text === "{" ? this.#token : undefined;
    if (!open) this.#at--;
    const directives = this.#directives();
    const last = this.#token;
    if (open && last?.text !== "}") this.#fail('a block has no closing "}"');
    return { keys: keys.found, open, close: open ? last : undefined, directives };
  }

  #keys(): { readonly found: readonly Token[]; readonly ended: boolean } {
    const found: Token[] = [];
    for (let another = false; ; ) {
      const token = this.#token;
      if (token?.text === "import" && this.#newLine()) {
        this.#import(true);
        // What was imported stands here now; nothing, and this was the last line.
        if (!this.#next()) return { found, ended: true };
        continue;
      }
      if (token?.text === "{") {
        if (another) this.#fail("another address is to follow a comma");
        return { found, ended: false };
      }
      if (token && token.text !== "") {
        another = token.text.endsWith(",");
        found.push(another ? { ...token, text: token.text.slice(0, -1) } : token);
      }
      const more = this.#next();
      if (another && !more) this.#fail("another address is to follow a comma");
      if (!more) return { found, ended: true };
      if (!another && this.#newLine()) return { found, ended: false };
    }
  }

  #snippet(name: string): void {
    if (this.#snippets.has(name)) this.#fail(`the snippet "${name}" is there twice`);
    if (this.#token?.text !== "{") this.#fail(`the snippet "${name}" has no "{"`);
    const tokens: Token[] = [];
    let depth = 1;
    while (this.#next()) {
      const token = this.#token!;
      if (token.text === "}" && --depth === 0) break;
      if (token.text === "{") depth++;
      tokens.push(token);
    }
    if (depth !== 0) this.#fail(`the snippet "${name}" has no closing "}"`);
    this.#snippets.set(name, tokens);
  }

  #directives(): Directive[] {
    const directives: Directive[] = [];
    while (this.#next()) {
      const token = this.#token!;
      if (token.text === "}") break;
      if (token.text === "import") this.#import(false);
      else directives.push(this.#directive(token));
    }
    return directives;
  }

  #directive(name: Token): Directive {
    const rest: Token[] = [];
    let depth = 0;
    while (this.#next()) {
      const token = this.#token!;
      if (token.text === "{") depth++;
      else if (this.#newLine() && depth === 0) {
        this.#at--;
        break;
      } else if (token.text === "}" && depth > 0) depth--;
      else if (token.text === "}") this.#fail('this "}" closes nothing');
      else if (token.text === "import" && this.#newLine()) {
        this.#import(false);
        continue;
      }
      rest.push(token);
    }
    if (depth > 0) this.#fail(`the block of "${name.text}" has no closing "}"`);
    return { name, rest };
  }

  /** Puts what is imported in place of the two words; `#next` then gives the first of it. */
  #import(top: boolean): void {
    const from = this.#at;
    if (!this.#sameLine()) this.#fail("import names nothing");
    const pattern = this.#token!;
    if (this.#sameLine()) this.#fail("import takes one name");
    if (++this.#imported > mostImports) this.#fail("imports go round in a circle");
    const snippet = this.#snippets.get(pattern.text);
    if (!snippet) this.#imports.push({ pattern, top });
    const tokens = snippet ?? this.#importer(pattern.text).flatMap(({ path, text }) => tokensOf(text, path));
    this.#tokens = [...this.#tokens.slice(0, from), ...tokens, ...this.#tokens.slice(from + 2)];
    this.#at = from - 1;
  }

  #sameLine(): boolean {
    const [now, next] = [this.#tokens[this.#at], this.#tokens[this.#at + 1]];
    if (!now || !next || now.file !== next.file || lastLine(now) !== next.line) return false;
    this.#at++;
    return true;
  }
}

function lastLine({ line, text }: Token): number {
  return line + text.split("\n").length - 1;
}
