import type { Ip } from "../../values/index.ts";
import { parseCorefile, type ServerBlock } from "./corefile.ts";
import { regionsOf, type Span } from "./regions.ts";
import { blocksOf, keysOf } from "./zones.ts";

/** A zone of somebody else's, where ours should be. */
export interface Conflict {
  readonly domain: string;
  /** Empty for the Corefile itself. */
  readonly file: string;
  readonly line: number;
  /** What the line says. */
  readonly text: string;
  /** It asks the very servers that ours would ask: there is nothing to do. */
  readonly same: boolean;
  /** Why it cannot be replaced; undefined when it can. */
  readonly stuck: string | undefined;
}

export function conflictWith(
  block: ServerBlock,
  at: { readonly domain: string; readonly ips: readonly Ip[]; readonly target: string; readonly text: string },
): Conflict {
  const { domain, ips, target, text } = at;
  const key = keysOf(block).find(({ zone }) => zone === `${domain}.`)!.token;
  const stuck =
    key.file !== target
      ? "it stands in another file"
      : block.keys.length > 1
        ? "its block serves other zones as well"
        : spanOf(text, block) === undefined
          ? "its lines are shared with something else, or come from a snippet"
          : undefined;
  const { file, line } = key;
  return { domain, file, line, text: (text.split("\n")[line - 1] ?? "").trim(), same: asks(block, ips), stuck };
}

/** Whether it hands all of its zone to these addresses and to nobody else. */
function asks({ directives }: ServerBlock, ips: readonly Ip[]): boolean {
  const asked = directives
    .filter(({ name }) => name.text === "forward" || name.text === "proxy")
    .flatMap(({ rest }) => {
      const brace = rest.findIndex(({ text }) => text === "{");
      return rest.slice(1, brace < 0 ? rest.length : brace).map(({ text }) => text.replace(/^dns:\/\//, ""));
    })
    .map((server) => server.replace(/^\[(.*)\]:53$/, "$1").replace(/^([^:]*):53$/, "$1"));
  return asked.length > 0 && asked.toSorted().join(" ") === ips.toSorted().join(" ");
}

/** The lines of the one block of a text that has this zone and is not ours. */
export function wholeLines(
  text: string,
  zone: { readonly domain: string; readonly port: number; readonly defaultPort: number },
): Span | undefined {
  const parsed = parseCorefile(text);
  if (!parsed.ok) return undefined;
  const regions = regionsOf(text);
  const [block] = blocksOf(parsed.corefile, zone.domain, zone.port, zone.defaultPort).filter(
    ({ keys }) => !regions.some(({ start, end }) => start <= keys[0]!.start && keys[0]!.start < end),
  );
  return block && spanOf(text, block);
}

/** From the line of its key to that of its last brace, when nothing but comments shares them with it. */
function spanOf(text: string, { keys, close }: ServerBlock): Span | undefined {
  const from = keys[0]!.start;
  if (!close || close.file !== keys[0]!.file || close.start < from) return undefined;
  const start = text.lastIndexOf("\n", from - 1) + 1;
  const lineEnd = text.indexOf("\n", close.end);
  const end = lineEnd < 0 ? text.length : lineEnd + 1;
  if (text.slice(start, from).trim() !== "" || !/^\s*(#.*)?$/.test(text.slice(close.end, end))) return undefined;
  const alone = parseCorefile(text.slice(start, end));
  // What comes from a snippet has its words elsewhere.
  return alone.ok && alone.corefile.blocks.length === 1 && alone.corefile.blocks[0]!.keys.length === 1
    ? { start, end }
    : undefined;
}
