import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";

/** Packs a message as `Any`, with the type URL that Envoy writes. */
export function pack<D extends DescMessage>(schema: D, message: MessageShape<D>): Any {
  return create(AnySchema, { typeUrl: `type.googleapis.com/${schema.typeName}`, value: toBinary(schema, message) });
}

export function isPacked(any: Any | undefined, schema: DescMessage): boolean {
  return any?.typeUrl === `type.googleapis.com/${schema.typeName}`;
}

/** The message inside, or undefined when `any` holds another type. Throws when the bytes are no such message. */
export function unpack<D extends DescMessage>(any: Any | undefined, schema: D): MessageShape<D> | undefined {
  return any && isPacked(any, schema) ? fromBinary(schema, any.value) : undefined;
}
