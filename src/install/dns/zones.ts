import type { Corefile, Problem, ServerBlock } from "./corefile.ts";
import type { Token } from "./tokens.ts";

/** What a key of a server block says: `global`, `global.:53`, `dns://Global:53` are one. */
export interface ZoneKey {
  readonly transport: string;
  /** Lower case, with its last dot; `.` is the root. */
  readonly zone: string;
  /** The same with its capitals. */
  readonly written: string;
  /** Undefined: the one that the program listens on unless told otherwise. */
  readonly port: number | undefined;
  readonly token: Token;
}

const transports = ["dns", "tls", "quic", "grpc", "https", "https3"];

export function zoneKey(token: Token): ZoneKey {
  const [, scheme = "", rest = token.text] = /^([a-z0-9]+):\/\/(.*)$/.exec(token.text) ?? [];
  const transport = transports.includes(scheme) ? scheme : "dns";
  const [, name = rest, port] = /^(.*):(\d+)$/.exec(rest) ?? [];
  const written = name.endsWith(".") ? name : `${name}.`;
  return {
    transport,
    written,
    zone: written.toLowerCase(),
    port: port === undefined ? undefined : Number(port),
    token,
  };
}

export function keysOf(block: ServerBlock): readonly ZoneKey[] {
  return block.keys.map(zoneKey);
}

/** The block that answers for all that no other block does, in plain DNS. */
export function mainBlock(corefile: Corefile): ServerBlock | undefined {
  return corefile.blocks.find((block) =>
    keysOf(block).some(({ zone, transport }) => zone === "." && transport === "dns"),
  );
}

/** Where a block listens in plain DNS. */
export function portOf(block: ServerBlock | undefined, defaultPort: number): number {
  const key = block && keysOf(block).find(({ zone, transport }) => zone === "." && transport === "dns");
  return key?.port ?? defaultPort;
}

/** Blocks that answer for just this zone, on the main block's port. */
export function blocksOf(
  corefile: Corefile,
  domain: string,
  port: number,
  defaultPort: number,
): readonly ServerBlock[] {
  return corefile.blocks.filter((block) =>
    keysOf(block).some(
      (key) => key.transport === "dns" && key.zone === `${domain}.` && (key.port ?? defaultPort) === port,
    ),
  );
}

/** Zones that two blocks claim at one address: CoreDNS refuses such a file whole. */
export function overlaps(corefile: Corefile, defaultPort: number): readonly Problem[] {
  const seen = new Map<string, Token>();
  const problems: Problem[] = [];
  for (const block of corefile.blocks) {
    // A view decides by more than the zone; what binds to an address of its own is not in the way of another's.
    if (block.directives.some(({ name }) => name.text === "view")) continue;
    const binds = block.directives.filter(({ name }) => name.text === "bind").flatMap(({ rest }) => rest);
    const addresses = binds.length === 0 ? [""] : binds.map(({ text }) => text);
    for (const { transport, written, zone, port, token } of keysOf(block)) {
      for (const address of addresses) {
        // CoreDNS compares them as they are written, capitals and all.
        const key = [transport, written, port ?? defaultPort, address].join(" ");
        const other = seen.get(key);
        if (other) {
          const message = `the zone "${zone}" is there twice, in line ${other.line} and in line ${token.line}`;
          problems.push({ file: token.file, line: token.line, message });
        }
        seen.set(key, token);
      }
    }
  }
  return problems;
}
