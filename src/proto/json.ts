import { fromBinary, fromJson, type JsonObject, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { registry } from "./registry.ts";

/** An encoded resource as canonical JSON, `Any`s opened. Throws when the bytes are no message of that type. */
export function resourceJson(typeUrl: string, bytes: Uint8Array): JsonValue {
  const schema = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (!schema) throw new Error(`BUG: "${typeUrl}" is not in the registry`);
  return toJson(schema, fromBinary(schema, bytes), { registry });
}

/** A message as JSON with its `@type`, from another program, as canonical JSON without it. Fields unknown here are left out. */
export function openAny(json: JsonObject): JsonValue {
  const { "@type": _, ...rest } = toJson(
    AnySchema,
    fromJson(AnySchema, json, { registry, ignoreUnknownFields: true }),
    {
      registry,
    },
  ) as JsonObject;
  return rest;
}

/** The inverse of `resourceJson`. Throws when the JSON is no message of that type, or has a field that is unknown here. */
export function resourceBytes(typeUrl: string, json: JsonValue): Uint8Array {
  const schema = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (!schema) throw new Error(`BUG: "${typeUrl}" is not in the registry`);
  return toBinary(schema, fromJson(schema, json, { registry }));
}
