import { fromBinary, type Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import type { Any } from "@bufbuild/protobuf/wkt";
import { registry } from "../../src/proto/registry.ts";

/**
 * The fields and enum values that Envoy calls deprecated and that are set in a message, `Any`s opened: as
 * `envoy.config.cluster.v3.Cluster.max_requests_per_connection`.
 */
export function deprecatedIn(typeUrl: string, bytes: Uint8Array): readonly string[] {
  const schema = registry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (!schema) throw new Error(`"${typeUrl}" is not in the registry`);
  const found = new Set<string>();
  walk(reflect(schema, fromBinary(schema, bytes)), found);
  return [...found].sort();
}

function walk(message: ReflectMessage, found: Set<string>): void {
  if (message.desc.typeName === "google.protobuf.Any") {
    const { typeUrl, value } = message.message as Message as Any;
    if (typeUrl !== "") for (const inner of deprecatedIn(typeUrl, value)) found.add(inner);
    return;
  }
  for (const field of message.desc.fields) {
    if (!message.isSet(field)) continue;
    if (field.deprecated) found.add(`${message.desc.typeName}.${field.name}`);
    const of =
      field.fieldKind === "list" ? field.listKind : field.fieldKind === "map" ? field.mapKind : field.fieldKind;
    const value: unknown = message.get(field);
    const each = field.fieldKind === "list" || field.fieldKind === "map" ? [...valuesOf(value)] : [value];
    if (of === "message") for (const one of each) walk(one as ReflectMessage, found);
    if (of === "enum" && field.enum) {
      for (const one of each) {
        const member = field.enum.value[one as number];
        if (member?.deprecated) found.add(`${field.enum.typeName}.${member.name}`);
      }
    }
  }
}

function valuesOf(collection: unknown): Iterable<unknown> {
  const { values } = collection as { values?: () => Iterable<unknown> };
  return values ? values.call(collection) : (collection as Iterable<unknown>);
}
