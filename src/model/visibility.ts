import { cached } from "./cached.ts";
import type { Visibility } from "./service.ts";

const known = new WeakMap<readonly string[], Map<string, Visibility>>();

/** `exportTo` of an object of `namespace`: `.` is its own, `*` everybody, `~` nobody; absent is everybody. */
export function visibilityOf(exportTo: readonly string[], namespace: string): Visibility {
  if (exportTo.length === 0 || exportTo.includes("*")) return "everyone";
  const byNamespace = cached(known, exportTo, () => new Map<string, Visibility>());
  return cached(byNamespace, namespace, (): Visibility => {
    const named = exportTo.filter((to) => to !== "~").map((to) => (to === "." ? namespace : to));
    return named.length === 0 ? "nobody" : new Set(named);
  });
}
