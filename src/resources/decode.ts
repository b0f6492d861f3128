import { z } from "zod";
import type { Labels } from "../values/index.ts";
import { type Code, codes } from "./codes.ts";
import { freeze } from "./frozen.ts";
import { type Kind, type KindRow, kindNames, kindOf, kinds } from "./kinds.ts";
import { type Metadata, type Resource, resourceKey } from "./resource.ts";
import { isDnsLabel, isDnsSubdomain, type Path, quoted } from "./schema.ts";
import { formatPath, type Violation } from "./violation.ts";
import { nearest, wordIssue } from "./wording.ts";
import type { Locate } from "./yaml.ts";

/** What is known of an object beside itself. */
export interface DecodeContext {
  readonly cluster: string;
  readonly file?: string;
  /** For objects that name none; `default` unless told otherwise. */
  readonly defaultNamespace?: string;
  /** Finds the line and column of a path in the object; everything is at 1:1 without. */
  readonly locate?: Locate;
}

export type Decoded =
  /** `violations` are warnings. */
  | {
      readonly outcome: "good";
      readonly key: string;
      readonly resource: Resource;
      readonly violations: readonly Violation[];
    }
  /** `key` is absent when not even the name of the object could be read. */
  | { readonly outcome: "wrong"; readonly key?: string; readonly violations: readonly Violation[] }
  /** None of our kinds. */
  | { readonly outcome: "ignored"; readonly violations: readonly Violation[] };

type Note = (path: Path, code: Code, message: string, at?: "key" | "value") => void;

/** One object to a frozen resource, or to all that is wrong with it. Never throws, whatever the object is. */
export function decodeResource(object: unknown, context: DecodeContext): Decoded {
  const violations: Violation[] = [];
  const note: Note = (path, code, message, at = "value") => {
    violations.push({
      ...(context.file === undefined ? {} : { file: context.file }),
      ...(context.locate?.(path, at) ?? { line: 1, column: 1 }),
      path: formatPath(path),
      message,
      code,
      severity: codes[code].severity,
    });
  };
  const wrong = (key?: string): Decoded => ({ outcome: "wrong", violations, ...(key === undefined ? {} : { key }) });
  if (typeof object !== "object" || object === null || Array.isArray(object)) {
    note([], "ISM0201", `must be an object with apiVersion, kind and metadata, got ${quoted(object)}`);
    return wrong();
  }
  const {
    apiVersion,
    kind,
    metadata: writtenMetadata,
    ...body
  } = withoutNulls(object, note, []) as Record<string, unknown>;
  if (violations.length > 0) return wrong();
  if (typeof kind !== "string" || typeof apiVersion !== "string") {
    if (typeof kind !== "string") note(["kind"], "ISM0201", "is required: what the object is, such as ServiceEntry");
    if (typeof apiVersion !== "string") note(["apiVersion"], "ISM0201", "is required, such as networking.istio.io/v1");
    return wrong();
  }
  const known = kindOf(apiVersion, kind);
  if (!known) {
    const [code, message] = unknownKind(apiVersion, kind);
    note(code === "ISM0203" ? ["apiVersion"] : ["kind"], code, message);
    return code === "ISM0202" ? { outcome: "ignored", violations } : wrong();
  }
  const row: KindRow = kinds[known];
  const metadata = readMetadata(writtenMetadata, row, context.defaultNamespace ?? "default", note);
  const key =
    metadata &&
    resourceKey({ cluster: context.cluster, kind: known, namespace: metadata.namespace, name: metadata.name });
  for (const annotation of row.annotations ?? [])
    annotation.judge(metadata?.annotations ?? {}, (path, code, message) => note(path, code, message));
  const spec = readBody(body, row, note);
  if (!metadata) return wrong();
  if (violations.some(({ severity }) => severity === "error")) return wrong(key);
  const resource = freeze({
    apiVersion,
    kind: known,
    metadata,
    ...spec,
    origin: {
      cluster: context.cluster,
      kind: known,
      namespace: metadata.namespace,
      name: metadata.name,
      ...(context.file === undefined ? {} : { file: context.file }),
      ...(context.locate ? { line: context.locate([], "value").line } : {}),
    },
  }) as unknown as Resource;
  row.advise?.(resource, (path, code, message) => note(path, code, message));
  if (violations.some(({ severity }) => severity === "error")) return wrong(key);
  return { outcome: "good", key: key!, resource, violations };
}

/** The object without entries that say null, which Kubernetes takes for absent. Refuses keys that reach into objects. */
function withoutNulls(value: unknown, note: Note, path: Path): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item, index) => withoutNulls(item, note, [...path, index]));
  const result: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === null || item === undefined) continue;
    if (key === "__proto__") note([...path, key], "ISM0106", `the key "${key}" is not allowed`, "key");
    else result[key] = withoutNulls(item, note, [...path, key]);
  }
  return result;
}

function unknownKind(apiVersion: string, kind: string): [Code, string] {
  const row: KindRow | undefined = Object.hasOwn(kinds, kind) ? kinds[kind as Kind] : undefined;
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  const prefix = row?.group ? `${row.group}/` : "";
  if (row && row.group === group)
    return [
      "ISM0203",
      `${kind} is not read in version ${quoted(version)}; write ${row.versions.map((v) => prefix + v).join(", ")}`,
    ];
  if (row && (group === "" || row.group === ""))
    return [
      "ISM0203",
      `${kind} belongs to ${row.versions.map((v) => prefix + v).join(", ")}, got ${quoted(apiVersion)}`,
    ];
  const close = row ? "" : nearest(kind, kindNames).replace(/^; there is .*$/, "");
  return [
    "ISM0202",
    `${quoted(kind)} of ${quoted(apiVersion)} is not a kind that is read; the object is ignored${close}`,
  ];
}

const metadataSchema = z.object({
  name: z.string().optional(),
  generateName: z.string().optional(),
  namespace: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  uid: z.string().optional(),
  generation: z.number().optional(),
  resourceVersion: z.string().optional(),
});

function readMetadata(written: unknown, row: KindRow, defaultNamespace: string, note: Note): Metadata | undefined {
  if (written === undefined) {
    note(["metadata"], "ISM0204", "is required, with at least a name");
    return undefined;
  }
  const payload = metadataSchema._zod.run({ value: written, issues: [] }, {}) as z.core.ParsePayload<
    z.output<typeof metadataSchema>
  >;
  for (const issue of payload.issues)
    for (const { path, code, message, at } of wordIssue(issue, written)) note(["metadata", ...path], code, message, at);
  if (typeof payload.value !== "object" || payload.value === null) return undefined;
  const {
    name,
    generateName,
    namespace,
    labels,
    annotations,
    creationTimestamp,
    deletionTimestamp,
    uid,
    generation,
    resourceVersion,
  } = payload.value;
  if (typeof name !== "string") {
    if (generateName !== undefined)
      note(["metadata", "generateName"], "ISM0205", "gives names only in an API server; write metadata.name instead");
    else if (payload.issues.length === 0) note(["metadata"], "ISM0204", "must have a name");
    return undefined;
  }
  const fits = row.name === "label" ? isDnsLabel(name) : isDnsSubdomain(name);
  if (!fits) {
    const dots = row.name === "label" ? "" : " and dots";
    note(
      ["metadata", "name"],
      "ISM0204",
      `must be lower case letters, digits, dashes${dots}, beginning and ending in a letter or digit, got ${quoted(name)}`,
    );
  }
  const lives =
    row.scope === "cluster" ? "" : typeof namespace === "string" && namespace !== "" ? namespace : defaultNamespace;
  if (lives !== "" && !isDnsLabel(lives)) {
    note(
      ["metadata", "namespace"],
      "ISM0206",
      `must be lower case letters, digits and dashes, at most 63, got ${quoted(lives)}`,
    );
    return undefined;
  }
  if (!fits) return undefined;
  return {
    name,
    namespace: lives,
    labels: (labels ?? {}) as Labels,
    annotations: (row.confidential ? {} : (annotations ?? {})) as Labels,
    ...time("creationTimestamp", creationTimestamp),
    ...time("deletionTimestamp", deletionTimestamp),
    ...(typeof uid === "string" ? { uid } : {}),
    ...(typeof generation === "number" ? { generation } : {}),
    ...(typeof resourceVersion === "string" ? { resourceVersion } : {}),
  };
}

function time<K extends string>(name: K, written: unknown): { [_ in K]?: number } {
  const ms = typeof written === "string" ? Date.parse(written) : Number.NaN;
  return (Number.isNaN(ms) ? {} : { [name]: ms }) as { [_ in K]?: number };
}

const placeholder = /\$\{[A-Za-z_][A-Za-z0-9_]*\}/;

function readBody(body: Record<string, unknown>, row: KindRow, note: Note): Record<string, unknown> {
  const unfilled: Path[] = [];
  if (row.unknownFields === "refused") {
    const known = Object.keys(row.schema.shape);
    for (const key of Object.keys(body))
      if (!known.includes(key))
        note(
          [key],
          "ISM0301",
          `is not a field here${nearest(key, ["apiVersion", "kind", "metadata", ...known])}`,
          "key",
        );
    findPlaceholders(body["spec"], ["spec"], unfilled, note);
  }
  const payload = row.schema._zod.run({ value: body, issues: [] }, {}) as z.core.ParsePayload<Record<string, unknown>>;
  for (const issue of payload.issues) {
    for (const { path, code, message, at } of wordIssue(issue, body)) {
      // A placeholder is wrong in one way only, however many rules its text breaks.
      const explained = unfilled.some(
        (other) => other.length <= path.length && other.every((part, index) => part === path[index]),
      );
      if (!explained) note(path, code, row.confidential ? unquoted(message) : message, at);
    }
  }
  return payload.value;
}

/** Without what was found, which would be the thing that nobody may see. */
function unquoted(message: string): string {
  return message.replace(/, got .*$/s, "").replace(/; put it in quotes.*$/s, "");
}

function findPlaceholders(value: unknown, path: Path, found: Path[], note: Note): void {
  if (typeof value === "string") {
    const match = placeholder.exec(value);
    if (!match) return;
    found.push(path);
    note(
      path,
      "ISM0110",
      `the placeholder "${match[0]}" was not filled in; write its value, or run the file through envsubst`,
    );
  } else if (typeof value === "object" && value !== null) {
    const keys = Array.isArray(value) ? value.keys() : Object.keys(value);
    for (const key of keys)
      findPlaceholders((value as Record<string | number, unknown>)[key], [...path, key], found, note);
  }
}
