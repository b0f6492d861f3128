import { createHash } from "node:crypto";
import { type Importer, parseCorefile } from "./corefile.ts";
import type { Token } from "./tokens.ts";

// The `reload` plugin says in a metric which configuration it took last, as a hash of what it parsed. Made here anew from
// the text that is in the ConfigMap, it shows from outside that CoreDNS runs just that.

export type HashName = "md5" | "sha512";

/**
 * What `reload` (from 1.7.0 on) would say of this configuration; undefined when the text has references to the
 * environment, which is the pod's own, or does not parse.
 */
export function reloadHash(text: string, importer: Importer, name: HashName): string | undefined {
  const parsed = parseCorefile(text, importer);
  if (!parsed.ok) return undefined;
  const blocks = parsed.corefile.blocks.map(({ keys, directives }) => {
    const tokens = new Map<string, Token[]>();
    for (const { name: word, rest } of directives) {
      tokens.set(word.text, [...(tokens.get(word.text) ?? []), word, ...rest]);
    }
    const sorted = [...tokens].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const written = sorted.map(([word, list]) => `${goString(word)}:[${list.map(goToken).join(",")}]`);
    return `{"Keys":[${keys.map((key) => goString(key.text)).join(",")}],"Tokens":{${written.join(",")}}}`;
  });
  const json = blocks.length === 0 ? "null" : `[${blocks.join(",")}]`;
  return /\{\$[^}]|\{%[^}]/.test(json) ? undefined : createHash(name).update(json).digest("hex");
}

function goToken({ file, line, text }: Token): string {
  return `{"File":${goString(file)},"Line":${line},"Text":${goString(text)}}`;
}

/** A string as Go writes it in JSON: safe to stand in HTML. */
function goString(text: string): string {
  return JSON.stringify(text).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

export interface ReloadState {
  /** The configuration that was taken last; none before the first reload after a start. */
  readonly hashes: ReadonlyArray<{ readonly name: HashName; readonly value: string }>;
  readonly failures: number;
}

/** From CoreDNS's metrics, as Prometheus reads them. */
export function reloadState(metrics: string): ReloadState {
  const hashes = [...metrics.matchAll(/^coredns_reload_version_info\{([^}]*)\} 1$/gm)].flatMap(([, labels = ""]) => {
    const [name, value] = ["hash", "value"].map((label) => new RegExp(`${label}="([^"]*)"`).exec(labels)?.[1]);
    return (name === "md5" || name === "sha512") && value ? [{ name, value } as const] : [];
  });
  const failures = /^coredns_reload_failed(?:_count)?_total (\S+)$/m.exec(metrics)?.[1];
  return { hashes, failures: Number(failures ?? 0) };
}

/** The version that a running CoreDNS says of itself. */
export function buildVersion(metrics: string): string | undefined {
  return /^coredns_build_info\{[^}]*version="([^"]+)"/m.exec(metrics)?.[1];
}
