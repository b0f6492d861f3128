import { formatPath, nearest } from "../../resources/index.ts";

/** Where inside the settings: `["gateways", "ingress", "type"]`. */
export type SettingPath = readonly (string | number)[];

/** One thing that is wrong, at the key itself or at what stands behind it. */
export interface SettingProblem {
  readonly path: SettingPath;
  readonly at: "key" | "value";
  readonly message: string;
}

export type Report = (problem: SettingProblem) => void;

/** One setting: what it must be, in words, and how it is told. */
export interface Leaf<T> {
  readonly kind: "leaf";
  readonly must: string;
  /** Whether `--set` takes the text as it stands (`tag=1.10`), or reads it as YAML. */
  readonly text: "as it stands" | "yaml";
  readonly accepts: (value: unknown) => boolean;
  /** The same as `accepts` in the words of JSON Schema, as near as it can say it. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** Keys may be set one by one, and several layers add up. */
  readonly open?: true;
  /** Never there: what the compiler holds against the field. */
  readonly of?: (value: T) => T;
}

/** A setting for each field, however deep. The compiler holds it against the type that it describes. */
export type Shape<T> = {
  readonly [K in keyof T]-?: T[K] extends string | number | boolean | readonly unknown[]
    ? Leaf<T[K]>
    : string extends keyof T[K]
      ? Leaf<T[K]>
      : Shape<T[K]>;
};

type AnyShape = { readonly [key: string]: Leaf<unknown> | AnyShape };

function leaf<T>(
  must: string,
  { text, schema }: Pick<Leaf<T>, "text" | "schema">,
  accepts: (value: unknown) => boolean,
): Leaf<T> {
  return { kind: "leaf", must, text, schema, accepts };
}

const list = { text: "yaml", schema: { type: "array" } } as const;

/** Text that fits `pattern`; all of it unless told otherwise. */
export function text(must: string, pattern: RegExp = /^/): Leaf<string> {
  const schema = { type: "string", ...(pattern.source === "^" ? {} : { pattern: pattern.source }) };
  return leaf(must, { text: "as it stands", schema }, (value) => typeof value === "string" && pattern.test(value));
}

export const flag: Leaf<boolean> = leaf(
  "true or false",
  { text: "yaml", schema: { type: "boolean" } },
  (value) => typeof value === "boolean",
);

export function whole(least: number, most: number): Leaf<number> {
  return leaf(
    `a whole number from ${least} to ${most}`,
    { text: "yaml", schema: { type: "integer", minimum: least, maximum: most } },
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  );
}

export function oneOf<T extends string>(words: readonly T[]): Leaf<T> {
  const schema = { type: "string", enum: words };
  return leaf(`one of ${words.join(", ")}`, { text: "as it stands", schema }, (value) =>
    (words as readonly unknown[]).includes(value),
  );
}

export function texts(must: string, pattern: RegExp = /^/): Leaf<readonly string[]> {
  const fits = (entry: unknown) => typeof entry === "string" && pattern.test(entry);
  return leaf(`a list of ${must}`, list, (value) => Array.isArray(value) && value.every(fits));
}

export function numbers(must: string, least: number, most: number): Leaf<readonly number[]> {
  const fits = (entry: unknown) => Number.isInteger(entry) && (entry as number) >= least && (entry as number) <= most;
  return leaf(`a list of ${must}`, list, (value) => Array.isArray(value) && value.every(fits));
}

/** Key to text, as labels and annotations are. */
export function textMap(
  must = "a mapping of names to texts",
  pattern: RegExp = /^/,
): Leaf<Readonly<Record<string, string>>> {
  const fits = (entry: unknown) => typeof entry === "string" && pattern.test(entry);
  const accepts = (value: unknown) => isMapping(value) && Object.values(value).every(fits);
  return { ...leaf(must, { text: "as it stands", schema: { type: "object" } }, accepts), open: true };
}

/** Passed on as it is: the API server judges it. */
export const mapping: Leaf<Readonly<Record<string, unknown>>> = leaf(
  "a mapping",
  { text: "yaml", schema: { type: "object" } },
  isMapping,
);
export const mappings: Leaf<readonly object[]> = leaf(
  "a list of mappings",
  list,
  (value) => Array.isArray(value) && value.every(isMapping),
);

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isLeaf(value: unknown): value is Leaf<unknown> {
  return (value as { kind?: unknown } | undefined)?.kind === "leaf";
}

/** The shape or leaf at a path; undefined when there is none. Below an open leaf stands that leaf. */
export function shapeAt(shape: object, path: readonly string[]): Leaf<unknown> | AnyShape | undefined {
  let at: Leaf<unknown> | AnyShape | undefined = shape as AnyShape;
  for (const [index, key] of path.entries()) {
    if (at === undefined) return undefined;
    if (isLeaf(at)) return at.open && index === path.length - 1 ? at : undefined;
    at = Object.hasOwn(at, key) ? at[key] : undefined;
  }
  return at;
}

/** Holds what somebody wrote against the shape: all that is wrong, and only what is right given back. */
export function judge(shape: object, value: unknown, report: Report, path: SettingPath = []): unknown {
  const known = shape as AnyShape;
  if (!isMapping(value)) {
    report({ path, at: "value", message: `must be a mapping, got ${shown(value)}` });
    return undefined;
  }
  const good: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) {
    const field = Object.hasOwn(known, key) ? known[key] : undefined;
    const here = [...path, key];
    if (field === undefined) {
      report({ path: here, at: "key", message: `is no setting${nearest(key, Object.keys(known))}` });
    } else if (!isLeaf(field)) {
      good[key] = judge(field, inner, report, here);
    } else if (field.accepts(inner)) {
      good[key] = inner;
    } else {
      report({ path: here, at: "value", message: `must be ${field.must}, got ${shown(inner)}${near(field, inner)}` });
    }
  }
  return good;
}

/** For a word that is one letter off one of those that are allowed. */
function near(field: Leaf<unknown>, value: unknown): string {
  if (!field.must.startsWith("one of ") || typeof value !== "string") return "";
  const found = nearest(value, field.must.slice("one of ".length).split(", "));
  return found.includes("did you mean") ? found : "";
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isMapping(value)) return "a mapping";
  const written = JSON.stringify(value) ?? String(value);
  return written.length > 120 ? `${written.slice(0, 117)}…"` : written;
}

/** The later layer over the earlier one: mappings add up, all else is replaced. */
export function overlay(below: unknown, above: unknown): unknown {
  if (above === undefined) return below;
  if (!isMapping(below) || !isMapping(above)) return above;
  const sum: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) sum[key] = overlay(sum[key], value);
  return sum;
}

export function pathText(path: SettingPath): string {
  return formatPath(path);
}
