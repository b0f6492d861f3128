import { documents } from "./yaml.ts";

/**
 * The objects of a text as they are written, nothing checked, no default filled in, lists taken apart: for who stores
 * or passes on what `readResources` has found good. Parts that are no mapping are left out.
 */
export function plainObjects(text: string): readonly Readonly<Record<string, unknown>>[] {
  const found: Readonly<Record<string, unknown>>[] = [];
  const take = (value: unknown) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return;
    const object = value as Readonly<Record<string, unknown>>;
    const items = object["items"];
    if (typeof object["kind"] === "string" && object["kind"].endsWith("List") && Array.isArray(items)) {
      for (const item of items) take(item);
    } else found.push(object);
  };
  for (const { value } of documents(text)) take(value);
  return found;
}
