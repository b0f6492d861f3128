import { stringify } from "yaml";

/**
 * Objects as a manifest: one document each. Long texts are not folded, so that a line stays a line; texts that kubectl, whose
 * YAML is older, would take for something else (`off`, `y`) are quoted.
 */
export function writeManifest(objects: readonly object[]): string {
  return objects
    .map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false, compat: "yaml-1.1" }))
    .join("---\n");
}
