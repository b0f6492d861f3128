import { isLeaf, overlay, shapeAt } from "../settings/field.ts";
import { settingsShape } from "../settings/settings.ts";

type Schema = { readonly [key: string]: unknown };

/**
 * What Helm holds values against (`values.schema.json`): only what the chart reads, and of each what the setting of that name
 * may be. Else `--set dns.clusterIP=10.96.7.7`, which is the installer's alone, would change nothing and say nothing.
 */
export function valuesSchema(paths: readonly (readonly string[])[]): Schema {
  const root = paths.reduce<unknown>(
    (all, path) =>
      overlay(
        all,
        path.reduceRight<unknown>((inner, key) => mappingOf({ [key]: inner }), leafSchema(path)),
      ),
    mappingOf({}),
  ) as Schema;
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    ...root,
    // Helm adds it when the chart is a part of another.
    properties: { ...(root["properties"] as Schema), global: { type: "object" } },
  };
}

function mappingOf(properties: Schema): Schema {
  return { type: "object", additionalProperties: false, properties };
}

function leafSchema(path: readonly string[]): Schema {
  const field = shapeAt(settingsShape, path);
  if (!isLeaf(field)) throw new Error(`${path.join(".")} is no setting`);
  return field.schema;
}
