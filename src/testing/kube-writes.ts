/** RFC 7386: null takes a field away, objects are merged, all else is replaced. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** What a forced server-side apply comes to here: lists of named things are merged by name, other lists replaced. */
export function applyPatch(target: unknown, patch: unknown): unknown {
  if (Array.isArray(patch) && Array.isArray(target) && patch.every(named)) {
    const others = target.filter((one) => !patch.some(({ name }) => name === one?.name));
    const merged = patch.map((one) => applyPatch(target.find((other) => other?.name === one.name) ?? {}, one));
    return [...merged, ...others];
  }
  if (!isObject(patch)) return patch;
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) result[key] = applyPatch(result[key], value);
  return result;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function named(value: unknown): value is { readonly name: string } {
  return isObject(value) && typeof value["name"] === "string";
}

/** Where a request's path leads: the collection over all namespaces, and what of it is meant. */
export function placeOf(path: string): {
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly status: boolean;
} {
  const [, api, namespace, plural, name, status] =
    /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+)(\/status)?)?$/.exec(path) ??
    [];
  return { collection: `${api}/${plural}`, namespace, name, status: status !== undefined };
}
