import type { ImportedFile, Importer } from "./corefile.ts";
import { parseCorefile } from "./corefile.ts";
import { type Mount, type Place, split, type Workload } from "./workload.ts";

/** The `data` of ConfigMaps of the DNS's namespace, by name. */
export type ConfigData = ReadonlyMap<string, Readonly<Record<string, string>>>;

/** What a pattern in a Corefile means, with the ConfigMaps that are mounted. Go sorts what it finds by name. */
export function importerOf({ path, mounts }: Pick<Workload, "path" | "mounts">, data: ConfigData): Importer {
  return (pattern) => {
    const [dir, name] = split(absolute(pattern, path));
    const matches = new RegExp(`^${name.split("*").map(escaped).join("[^/]*")}$`);
    return mounts
      .filter((mount) => mount.dir === dir)
      .flatMap((mount) => filesOf(mount, data))
      .filter((file) => matches.test(split(file.path)[1]))
      .sort((a, b) => (a.path < b.path ? -1 : 1));
  };
}

function filesOf({ dir, configMap, files }: Mount, data: ConfigData): readonly ImportedFile[] {
  const texts = data.get(configMap) ?? {};
  const names = files ?? new Map(Object.keys(texts).map((key) => [key, key]));
  return [...names].flatMap(([file, key]) => {
    const text = texts[key];
    return text === undefined ? [] : [{ path: `${dir}/${file}`, text }];
  });
}

/** A file of our own that a Corefile imports whole blocks from. */
export interface ServerFile {
  readonly place: Place;
  readonly path: string;
}

/**
 * Where a managed cluster wants additions: between its blocks the Corefile imports files (`custom/*.server`) of a ConfigMap
 * that is the owner's, so that the manager puts back the Corefile and leaves that alone.
 */
export function serverFile(main: string, { path, mounts, namespace }: Workload): ServerFile | undefined {
  const parsed = parseCorefile(main);
  if (!parsed.ok) return undefined;
  for (const { pattern, top } of parsed.corefile.imports) {
    const [dir, name] = split(absolute(pattern.text, path));
    if (!top || name.split("*").length !== 2) continue;
    const mount = mounts.find((one) => one.dir === dir && one.files === undefined);
    const key = name.replace("*", "isthmus");
    if (mount) return { place: { namespace, configMap: mount.configMap, key }, path: `${dir}/${key}` };
  }
  return undefined;
}

function absolute(pattern: string, path: string): string {
  if (pattern.startsWith("/")) return pattern;
  return `${split(path)[0]}/${pattern.replace(/^\.\//, "")}`;
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
