import { fromBinary, type JsonValue, toJson } from "@bufbuild/protobuf";
import { registry } from "./registry.ts";

/** An encoded resource as canonical JSON, `Any`s opened. Throws when the bytes are no message of that type. */
export function resourceJson(typeUrl: string, bytes: Uint8Array): JsonValue {
  const schema = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (!schema) throw new Error(`BUG: "${typeUrl}" is not in the registry`);
  return toJson(schema, fromBinary(schema, bytes), { registry });
}
