import { describe, expect, test } from "vitest";
import { customKinds, customResourceDefinition, type StructuralSchema, structural } from "./crd.ts";

describe.each(customKinds)("the definition of %s", (kind) => {
  const definition = customResourceDefinition(kind);
  const [stored, ...others] = definition.spec.versions;

  test("serves every version that is read, with one schema, and keeps one of them", () => {
    expect(definition.spec.versions.map(({ name }) => name)).toEqual(["v1", "v1beta1", "v1alpha3"]);
    expect(stored?.storage).toBe(true);
    expect(others.every(({ storage, served }) => served && !storage)).toBe(true);
  });

  test("is structural: every part has a type, or is open on purpose", () => {
    const bare: string[] = [];
    const walk = (schema: StructuralSchema, path: string) => {
      if (!schema.type && !schema["x-kubernetes-preserve-unknown-fields"]) bare.push(path);
      for (const [name, field] of Object.entries(schema.properties ?? {})) walk(field, `${path}.${name}`);
      if (schema.items) walk(schema.items, `${path}[]`);
      if (schema.additionalProperties) walk(schema.additionalProperties, `${path}{}`);
    };
    walk(stored!.schema.openAPIV3Schema, kind);
    expect(bare).toEqual([]);
    expect(stored!.schema.openAPIV3Schema.properties?.["spec"]?.type).toBe("object");
  });
});

test("the fields of a kind are those that its reader knows, and unknown ones come through to it", () => {
  const { openAPIV3Schema } = customResourceDefinition("ServiceEntry").spec.versions[0]!.schema;
  const spec = openAPIV3Schema.properties?.["spec"];
  expect(spec?.["x-kubernetes-preserve-unknown-fields"]).toBe(true);
  expect(spec?.properties?.["hosts"]).toEqual({ type: "array", items: { type: "string" } });
  const endpoint = spec?.properties?.["endpoints"]?.items;
  expect(endpoint?.properties?.["ports"]).toEqual({
    type: "object",
    additionalProperties: { type: "integer", format: "int64" },
  });
});

test("what has no structural form is a fault of ours, and said", () => {
  expect(() => structural({ anyOf: [{ type: "string" }, { type: "integer" }] } as never)).toThrow("no structural form");
});
