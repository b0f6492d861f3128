type Schema = { readonly [key: string]: unknown };

/**
 * What Helm holds values against (`values.schema.json`): only what the chart reads, of the kind that its defaults have. Else
 * `--set revision=canary`, which is the installer's alone, would change nothing and say nothing.
 *
 * Below a path of `open`, anything goes that is of that kind.
 */
export function valuesSchema(defaults: object, open: readonly (readonly string[])[]): Schema {
  const root = schemaOf(defaults, [], new Set(open.map((path) => path.join("."))));
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    ...root,
    // Helm adds it when the chart is a part of another.
    properties: { ...(root["properties"] as Schema), global: { type: "object" } },
  };
}

function schemaOf(value: unknown, path: readonly string[], open: ReadonlySet<string>): Schema {
  if (typeof value === "number") return { type: "integer" };
  if (typeof value !== "object" || value === null) return { type: typeof value };
  if (open.has(path.join("."))) return { type: "object" };
  const inner = Object.entries(value).map(([key, one]) => [key, schemaOf(one, [...path, key], open)]);
  return { type: "object", additionalProperties: false, properties: Object.fromEntries(inner) };
}
