import { stringify } from "yaml";

/** Objects as a manifest: one document each. Long texts are not folded, so that a line stays a line. */
export function writeManifest(objects: readonly object[]): string {
  return objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join("---\n");
}
