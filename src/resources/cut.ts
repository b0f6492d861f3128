import { type Document, isMap, isScalar, isSeq, parseAllDocuments } from "yaml";
import { plainObjects } from "./plain.ts";

/** What stands in the place of an object that was cut: a list without objects is none, wherever it is written. */
const nothing = `{ "kind": "List", "items": [] }`;

/**
 * The text without the objects for which `goes` holds; every line of the others is where it was. For texts that
 * `readResources` has found good: a text that is no YAML comes back as it is.
 */
export function cutObjects(text: string, goes: (object: Readonly<Record<string, unknown>>) => boolean): string {
  if (!plainObjects(text).some(goes)) return text;
  const cuts: { readonly from: number; readonly to: number }[] = [];
  const parsed = parseAllDocuments(text, { uniqueKeys: false, version: "1.2", logLevel: "silent" });
  if (!Array.isArray(parsed)) return text;
  for (const document of parsed as readonly Document.Parsed[]) {
    if (document.errors.length > 0) continue;
    for (const node of objectNodes(document.contents)) {
      const range = (node as { readonly range?: readonly number[] | null }).range;
      const [object] = plainObjects(JSON.stringify((node as { toJS(doc: Document): unknown }).toJS(document)) ?? "");
      if (range && object && goes(object)) cuts.push({ from: range[0]!, to: range[1]! });
    }
  }
  let cut = text;
  for (const { from, to } of cuts.reverse()) {
    const lines = cut.slice(from, to).split("\n").length - 1;
    cut = `${cut.slice(0, from)}${nothing}${"\n".repeat(lines)}${cut.slice(to)}`;
  }
  return cut;
}

/** The nodes of the objects below this one: those of a `List`, else the node itself. */
function objectNodes(node: unknown): readonly unknown[] {
  if (!isMap(node)) return [];
  const kind = node.get("kind", true);
  const items = node.get("items", true);
  const isList = isScalar(kind) && typeof kind.value === "string" && kind.value.endsWith("List");
  return isList && isSeq(items) ? items.items.flatMap((item) => objectNodes(item)) : [node];
}
