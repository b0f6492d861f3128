import { Failure } from "../../base/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import type { Ip } from "../../values/index.ts";
import { dataOf } from "./cluster-dns.ts";
import type { Problem } from "./corefile.ts";
import { cleanCorefile, editCorefile, refusals, sameButOurs } from "./corefile-edit.ts";
import { removeStubDomains, setStubDomains, type Undo, undoAnnotation } from "./stub-domains.ts";
import { configOf, formatPlace, type Target, withObject } from "./targets.ts";
import { formatVersion } from "./version.ts";

/** Says that a ConfigMap is there because of us: then it goes when nothing else is in it. */
export const createdAnnotation = "isthmus.dev/dns-created";

/** What one text becomes. */
export interface Change {
  /** Undefined: there is no such key. */
  readonly before: string | undefined;
  readonly after: string | undefined;
  /** Kept beside the text; null: not any more. */
  readonly undo: Undo | null | undefined;
  readonly taken: readonly Taken[];
  readonly notes: readonly string[];
}

/** Somebody else has the zone. */
export interface Taken {
  readonly domain: string;
  /** Place and words. */
  readonly text: string;
  readonly same: boolean;
  readonly stuck: string | undefined;
}

export interface InstallWish {
  readonly domains: readonly string[];
  readonly ips: readonly Ip[];
  readonly replace: boolean;
  readonly complete: boolean;
  /** Write although CoreDNS would not load the file as it stands. */
  readonly force: boolean;
}

/**
 * The text of a target as it is to be. Throws `clusterdns/corefile-refused` where CoreDNS would not load the result,
 * `clusterdns/stub-domains` where there is something else than there should be.
 */
export function installed(target: Target, configMaps: ReadonlyMap<string, KubeObject>, wish: InstallWish): Change {
  const object = configMaps.get(target.place.configMap);
  const before = dataOf(object)[target.place.key];
  if (target.kind === "stub-domains") {
    const edit = setStubDomains({ text: before, undo: undoOf(object) }, wish);
    if (!edit.ok) throw new Failure("clusterdns/stub-domains", `${formatPlace(target.place)}: ${edit.message}`);
    const taken = edit.conflicts.map(({ domain, text, same }) => ({ domain, text, same, stuck: undefined }));
    return { before, after: edit.value.text, undo: edit.value.undo ?? null, taken, notes: [] };
  }
  const { main = "", importer } = configOf(target, configMaps);
  const defaultPort = target.workload.port;
  const path = target.kind === "server-file" ? target.path : "";
  const edit = editCorefile({ main, importer }, { ...wish, ...target, defaultPort }, path);
  if (!edit.ok) throw refused(target, [edit.problem]);
  const taken = edit.conflicts.map((one) => ({
    ...one,
    text: `${one.file === "" ? "" : `${one.file}, `}line ${one.line}: ${one.text}`,
  }));
  const change: Change = {
    before,
    after: edit.text === "" ? before : edit.text,
    undo: undefined,
    taken,
    notes: edit.notes,
  };
  if (change.after === before) return change;
  const after = configOf(target, withText(configMaps, target, change.after));
  const problems = refusals(
    { main: after.main ?? "", importer: after.importer },
    { version: target.version, defaultPort },
  );
  if (problems.length > 0 && !wish.force) throw refused(target, problems);
  const added = target.kind === "corefile" && (wish.complete || wish.replace);
  if (target.kind === "corefile" && !added && !sameButOurs({ main, importer }, { main: after.main ?? "", importer })) {
    throw refused(target, [
      { file: "", line: 1, message: "the block cannot be added without changing what others mean" },
    ]);
  }
  return change;
}

/** The text without what is ours; of these domains, or of all. */
export function removed(
  target: Target,
  configMaps: ReadonlyMap<string, KubeObject>,
  domains: readonly string[] | undefined,
): Change {
  const object = configMaps.get(target.place.configMap);
  const before = dataOf(object)[target.place.key];
  const nothing = { taken: [], notes: [] };
  if (target.kind === "stub-domains") {
    const edit = removeStubDomains({ text: before, undo: undoOf(object) }, domains);
    if (!edit.ok) throw new Failure("clusterdns/stub-domains", `${formatPlace(target.place)}: ${edit.message}`);
    return { before, after: edit.value.text, undo: edit.value.undo ?? null, ...nothing };
  }
  const text = before === undefined ? undefined : cleanCorefile(before, domains);
  const after = target.kind === "server-file" && text === "" ? undefined : text;
  return { before, after, undo: undefined, ...nothing };
}

/** The ConfigMaps as they would be. */
export function withText(
  configMaps: ReadonlyMap<string, KubeObject>,
  { place }: Pick<Target, "place">,
  text: string | undefined,
): ReadonlyMap<string, KubeObject> {
  const object = configMaps.get(place.configMap) ?? { metadata: { name: place.configMap, namespace: place.namespace } };
  const { [place.key]: _, ...rest } = dataOf(object);
  const data = text === undefined ? rest : { ...rest, [place.key]: text };
  return withObject(configMaps, place.configMap, { ...object, data });
}

export function undoOf(object: KubeObject | undefined): Undo | undefined {
  const annotations = (object?.metadata["annotations"] ?? {}) as Readonly<Record<string, string>>;
  const text = annotations[undoAnnotation];
  if (text === undefined) return undefined;
  try {
    const read = JSON.parse(text) as Partial<Undo> | null;
    const fine = typeof read?.after === "string" && typeof read.domains === "object" && read.domains !== null;
    return fine ? { before: read.before ?? null, after: read.after!, domains: read.domains! } : undefined;
  } catch {
    // Somebody wrote there. What is in the text is then theirs as well.
    return undefined;
  }
}

function refused(target: Target, problems: readonly Problem[]): Failure {
  const version = "version" in target && target.version ? ` ${formatVersion(target.version)}` : "";
  const lines = problems.map(
    ({ file, line, message }) => `  ${file === "" ? "" : `${file}, `}line ${line}: ${message}`,
  );
  return new Failure(
    "clusterdns/corefile-refused",
    `CoreDNS${version} would not load the Corefile of ${formatPlace(target.place)}:\n${lines.join("\n")}`,
    { hint: "mend these lines first; nothing was written. --force writes in spite of it" },
  );
}
