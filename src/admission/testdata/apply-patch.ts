/** RFC 6902 for tests: what the API server does with the patch that it is given. */
export function applyPatch(
  document: unknown,
  patch: readonly { readonly op: string; readonly path: string; readonly value?: unknown }[],
): unknown {
  let root = structuredClone(document);
  for (const { op, path, value } of patch) {
    const keys = path
      .split("/")
      .slice(1)
      .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = keys.pop();
    if (last === undefined) {
      root = value;
      continue;
    }
    let parent = root as Record<string, unknown>;
    for (const key of keys) {
      if (!(key in parent)) throw new Error(`nothing at ${path}`);
      parent = parent[key] as Record<string, unknown>;
    }
    if (op !== "add" && !(last in parent)) throw new Error(`nothing at ${path}`);
    if (op === "remove") delete parent[last];
    else parent[last] = value;
  }
  return root;
}
