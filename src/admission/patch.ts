import { isDeepStrictEqual } from "node:util";

/** RFC 6902. */
export type PatchOperation =
  | { readonly op: "add" | "replace"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

/** What makes `after` of `before`: objects key by key, all else, lists too, as a whole. Both are JSON. */
export function jsonPatch(before: unknown, after: unknown, path = ""): readonly PatchOperation[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (!isObject(before) || !isObject(after)) return [{ op: "replace", path, value: after }];
  const gone = Object.keys(before).filter((key) => after[key] === undefined);
  return [
    ...gone.map((key) => ({ op: "remove" as const, path: below(path, key) })),
    ...Object.entries(after).flatMap(([key, value]): readonly PatchOperation[] => {
      if (value === undefined) return [];
      if (Object.hasOwn(before, key)) return jsonPatch(before[key], value, below(path, key));
      return [{ op: "add", path: below(path, key), value }];
    }),
  ];
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** RFC 6901 §3. */
function below(path: string, key: string): string {
  return `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
}
